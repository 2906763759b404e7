//! Many publishers at a steady pace, and how late their answers are: counted from when each was meant to be sent, so that what held a
//! publisher up counts for all that it held up.

use anyhow::Result;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// So many publishers, each with one at a time, evenly spread over the time between two of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) publishers: usize,
    pub(crate) every: Duration,
    /// How many each publishes.
    pub(crate) each: u32,
}

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paced {
    /// From the intended time to the answer, in milliseconds.
    #[allow(dead_code, reason = "a bench uses a part of it")]
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Of the intended rate.
    pub(crate) sustained: f64,
}

impl Pace {
    pub(crate) fn total(&self) -> usize {
        self.publishers * self.each as usize
    }

    /// Runs it. `publish` is given whose it is, counted from zero, and its number among those of that one.
    pub(crate) async fn run<F, A>(self, publish: F) -> Result<Paced>
    where
        F: Fn(usize, u32) -> A + Clone + Send + 'static,
        A: Future<Output = Result<()>> + Send,
    {
        let begun = Instant::now() + Duration::from_millis(20);
        let mut publishers = JoinSet::new();
        for publisher in 0..self.publishers {
            let publish = publish.clone();
            let first = begun + self.every * publisher as u32 / self.publishers as u32;
            publishers.spawn(async move {
                let mut delays = Vec::with_capacity(self.each as usize);
                for number in 0..self.each {
                    let due = first + self.every * number;
                    sleep_until(due).await;
                    publish(publisher, number).await?;
                    delays.push(due.elapsed());
                }
                Ok::<_, anyhow::Error>(delays)
            });
        }
        let mut delays = Vec::with_capacity(self.total());
        while let Some(publisher) = publishers.join_next().await {
            delays.extend(publisher??);
        }
        let (took, planned) = (begun.elapsed(), self.every * self.each);
        delays.sort_unstable();
        let at = |hundredth: usize| delays[delays.len() * hundredth / 100].as_secs_f64() * 1e3;
        Ok(Paced {
            p50: at(50),
            p99: at(99),
            sustained: planned.as_secs_f64() / took.max(planned).as_secs_f64(),
        })
    }
}
