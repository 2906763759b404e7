//! What the bus asks of a consumer.

use super::*;

impl Consumer for JetConsumer {
    type Token = JetToken;

    async fn next(&mut self, room: bool) -> Result<Incoming<JetToken>, Failure> {
        poll_fn(|cx| self.poll_next(room, cx)).await
    }

    async fn answer(&mut self, token: &JetToken, answer: Answer) -> Result<Answered, Failure> {
        self.link.alive()?;
        let Position {
            partition,
            offset,
            epoch,
        } = token.0;
        let of = self
            .partitions
            .get_mut(&partition)
            .or(self.leaving.get_mut(&partition));
        let Some(of) = of.filter(|of| of.epoch == epoch) else {
            // Another has it; that it was taken is heard next.
            return Ok(Answered::Pending);
        };
        if !of.out.contains_key(&offset) {
            return Ok(Answered::Final);
        }
        let asks = self.confirm && answer == Answer::Ack;
        if answer != Answer::InProgress {
            of.out.remove(&offset);
        }
        if asks {
            of.confirming.insert(offset, self.link.host.runtime().now());
        }
        let confirm = asks.then_some(self.member);
        if self
            .link
            .weather
            .strikes(crate::sim::fault::Fault::LostAnswer)
        {
            // It does not get through, and neither does anything behind it.
            self.shared.cut(&self.link);
            return Ok(if asks {
                Answered::Pending
            } else {
                Answered::Final
            });
        }
        let at = self.at(partition, offset);
        self.say(Up::Answer {
            at,
            answer,
            confirm,
        });
        Ok(if asks {
            Answered::Pending
        } else {
            Answered::Final
        })
    }

    async fn release(&mut self, partition: u32, epoch: u64) -> Result<(), Failure> {
        self.link.alive()?;
        if self
            .leaving
            .get(&partition)
            .is_some_and(|of| of.epoch == epoch)
        {
            self.leaving.remove(&partition);
            let member = self.member;
            self.say(Up::Release {
                member,
                partition,
                epoch,
            });
        }
        Ok(())
    }

    async fn lag(&mut self) -> Result<Vec<(u32, u64)>, Failure> {
        let owned: Vec<u32> = self.partitions.keys().copied().collect();
        let (topic, group) = (self.topic.clone(), self.group.clone());
        let lag = self.link.round_trip(&self.shared, |server| {
            let stream = server.streams.get(&topic)?;
            let of = |partition: &u32| {
                let durable = stream.durables.get(&(group.clone(), *partition))?;
                Some((
                    *partition,
                    durable.lag(&stream.partitions[*partition as usize]),
                ))
            };
            Some(owned.iter().filter_map(of).collect::<Vec<_>>())
        });
        lag.await?
            .ok_or_else(|| Failure::new(FailureKind::NoTopic, "the stream is gone"))
    }

    fn progress_every(&self) -> Option<Duration> {
        Some(ACK_WAIT / 2)
    }

    fn sure_until(&self) -> Option<Duration> {
        Some(self.sure + PIN_WAIT / 2)
    }

    async fn close(self, _: Duration) {
        // Leaving the group is in `drop`, so that a consumer that is only dropped leaves as well.
    }
}

impl Drop for JetConsumer {
    fn drop(&mut self) {
        self.link.forget(self.member);
        // A process that is dead says nothing any more: its connection is cut.
        let member = self.member;
        self.say(Up::Leave { member });
    }
}
