//! A fleet: processes that consume for one group. Each writes a history of its own, any of them can be killed, and at the
//! end the histories are one.

use crate::origin::Origin;
use crate::patience::{PATIENCE, until};
use crate::record::{self, Record};
use anyhow::{Context, Result, bail, ensure};
use clearway_verify::history::{self, Header, History, Phase};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Tells a process which post is its own.
const POST: &str = "CLEARWAY_TEST_POST";

/// The work of one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Post {
    /// Of the server.
    pub url: String,
    /// What it reads.
    pub topic: String,
    /// Whom for.
    pub group: String,
    /// What else the test has to tell it.
    pub case: String,
    /// Tells the processes of a run apart; a process that is started in the place of another has a number of its own.
    pub number: u32,
    /// Where its history goes.
    pub history: PathBuf,
}

impl Post {
    /// The post of this process, if it is one of a fleet.
    pub fn of_this_process() -> Result<Option<Self>> {
        let Some(post) = std::env::var_os(POST) else {
            return Ok(None);
        };
        let post = post.into_string().ok().context(POST)?;
        Ok(Some(serde_json::from_str(&post)?))
    }

    /// Begins its history.
    pub fn record(&self) -> Result<Record> {
        // The backend is what the scheme names.
        let backend = self.url.split(':').next().unwrap_or_default();
        Record::of_process(&self.history, Header::new(backend), self.number)
    }

    /// Waits until the fleet ends, or whoever started it is dead.
    pub async fn until_the_end(&self) -> Result<()> {
        // Nothing is ever written to it: it ends when the other side does.
        let end = tokio::task::spawn_blocking(|| {
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())
        });
        end.await??;
        Ok(())
    }
}

/// See the module.
pub struct Fleet {
    record: Record,
    test: String,
    folder: PathBuf,
    /// The test of this program that a process runs.
    runs: &'static str,
    post: Post,
    processes: Vec<Process>,
    /// The histories of those that were killed.
    cut: Vec<PathBuf>,
    /// The histories of those that have left by themselves.
    left: Vec<PathBuf>,
}

struct Process {
    post: Post,
    child: Child,
}

impl Process {
    fn recorded(&self) -> Result<u64> {
        // It may not have begun yet.
        Ok(fs::metadata(&self.post.history).map_or(0, |file| file.len()))
    }

    fn pid(&self) -> Result<Pid> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id as i32));
        pid.with_context(|| format!("process {} has ended", self.post.number))
    }
}

impl Fleet {
    /// A fleet without a process. Each will run the test `runs` of this program, at a post like `post`.
    pub fn begin(
        test: &str,
        broker: &impl AsRef<Origin>,
        (workload, seed): (&str, u64),
        runs: &'static str,
        post: Post,
    ) -> Result<Self> {
        let folder = record::histories()?.join(test);
        // What an earlier run left is not of this one.
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let header = record::header(broker.as_ref(), workload, Some(seed));
        Ok(Self {
            record: Record::of_process(&folder.join("0.jsonl"), header, 0)?,
            test: test.to_owned(),
            folder,
            runs,
            post,
            processes: Vec::new(),
            cut: Vec::new(),
            left: Vec::new(),
        })
    }

    /// Where whoever runs the fleet writes down what it does itself.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Starts another process.
    pub fn start(&mut self) -> Result<()> {
        let number = (self.processes.len() + self.cut.len() + self.left.len()) as u32 + 1;
        let post = Post {
            number,
            history: self.folder.join(format!("{number}.jsonl")),
            ..self.post.clone()
        };
        let child = Command::new(std::env::current_exe()?)
            .args(["--exact", self.runs, "--nocapture", "--include-ignored"])
            .env(POST, serde_json::to_string(&post)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        self.processes.push(Process { post, child });
        Ok(())
    }

    /// Fails if a process has ended by itself.
    pub fn all_there(&mut self) -> Result<()> {
        for Process { post, child } in &mut self.processes {
            if let Some(status) = child.try_wait()? {
                bail!("process {} has ended by itself: {status}", post.number);
            }
        }
        Ok(())
    }

    /// Kills the process that has recorded most, in the middle of whatever it does. Gives its number.
    pub async fn kill_busiest(&mut self) -> Result<u32> {
        let busiest = self.busiest()?;
        self.kill(busiest).await?;
        Ok(busiest)
    }

    /// Kills a process, in the middle of whatever it does.
    pub async fn kill(&mut self, number: u32) -> Result<()> {
        let mut processes = self.processes.iter();
        let at = processes.position(|process| process.post.number == number);
        let at = at.with_context(|| format!("there is no process {number}"))?;
        let mut process = self.processes.remove(at);
        // SIGKILL, and when this returns it is dead.
        process.child.kill().await?;
        self.record.recorder().disconnect(number, true);
        self.cut.push(process.post.history);
        Ok(())
    }

    /// The numbers of those that run, in the order in which they were started.
    pub fn numbers(&self) -> Vec<u32> {
        let numbers = self.processes.iter().map(|process| process.post.number);
        numbers.collect()
    }

    /// How long each process's history is, in bytes.
    pub fn recorded(&self) -> Result<Vec<u64>> {
        let sizes = self.processes.iter().map(|process| process.recorded());
        sizes.collect()
    }

    /// The same of one of them.
    pub fn recorded_by(&self, number: u32) -> Result<u64> {
        self.process(number)?.recorded()
    }

    /// Has the process that has recorded most stand still, in the middle of whatever it does. Gives its number.
    pub async fn freeze_busiest(&mut self) -> Result<u32> {
        let busiest = self.busiest()?;
        self.freeze(busiest).await?;
        Ok(busiest)
    }

    /// Has a process stand still, in the middle of whatever it does.
    pub async fn freeze(&self, number: u32) -> Result<()> {
        let pid = self.process(number)?.pid()?;
        kill_process(pid, Signal::STOP)?;
        until(&format!("process {number} stands still"), async || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
            // After its name, which is in brackets and may hold any of these.
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
            Ok(state.is_some_and(|state| state.starts_with('T')))
        })
        .await?;
        self.record.recorder().frozen(number, Phase::Begin);
        Ok(())
    }

    fn busiest(&self) -> Result<u32> {
        let busiest = (self.processes.iter()).max_by_key(|process| process.recorded().unwrap_or(0));
        Ok(busiest.context("there is no process")?.post.number)
    }

    /// Lets a process that stands still go on.
    pub fn thaw(&self, number: u32) -> Result<()> {
        let pid = self.process(number)?.pid()?;
        self.record.recorder().frozen(number, Phase::End);
        Ok(kill_process(pid, Signal::CONT)?)
    }

    fn process(&self, number: u32) -> Result<&Process> {
        let mut processes = self.processes.iter();
        let process = processes.find(|process| process.post.number == number);
        process.with_context(|| format!("there is no process {number}"))
    }

    /// Lets all processes close their buses, and waits until they have.
    pub async fn end(&mut self) -> Result<()> {
        for process in &mut self.processes {
            drop(process.child.stdin.take());
        }
        for process in &mut self.processes {
            ended(process).await?;
        }
        Ok(())
    }

    /// Lets one process close its bus, and waits until it has.
    pub async fn dismiss(&mut self, number: u32) -> Result<()> {
        let mut processes = self.processes.iter();
        let at = processes.position(|process| process.post.number == number);
        let at = at.with_context(|| format!("there is no process {number}"))?;
        let mut process = self.processes.remove(at);
        drop(process.child.stdin.take());
        ended(&mut process).await?;
        self.left.push(process.post.history);
        Ok(())
    }

    /// The history of all of them, and where it lies.
    pub fn finish(self) -> Result<(History, PathBuf)> {
        let Self {
            record,
            test,
            folder,
            processes,
            cut,
            left,
            ..
        } = self;
        let mut histories = vec![history::read(record.close()?)?];
        for path in cut {
            histories.push(history::read_cut(path)?);
        }
        let of_running = processes.into_iter().map(|process| process.post.history);
        for path in left.into_iter().chain(of_running) {
            histories.push(history::read(path)?);
        }
        let merged = history::merge(histories);
        let path = folder.with_file_name(test).with_extension("jsonl");
        fs::write(&path, merged.to_text())?;
        Ok((merged, path))
    }
}

async fn ended(Process { post, child }: &mut Process) -> Result<()> {
    let ended = timeout(PATIENCE, child.wait()).await;
    let status = ended.with_context(|| format!("process {} does not end", post.number))??;
    ensure!(status.success(), "process {}: {status}", post.number);
    Ok(())
}
