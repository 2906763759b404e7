//! The client of a consumer: what librdkafka and the thread that polls it are to the bus's Kafka backend. Its tasks run in the process of the
//! bus, and stand still with it.
//!
//! It never says of a partition that it is ours before the coordinator has, never commits under an epoch that is over, and lets go of what is
//! revoked only when nothing of it is handled any more, its time is up, or it is lost already. What waits for what while partitions leave, and how
//! far each is settled, is decided by the production code: `leaving` and `progress` of the bus's own backend.
//!
//! | file | what |
//! |---|---|
//! | `classic`, `broker` | the two ways to be a member |
//! | `handover` | what is revoked, and how long its end waits for handlers |
//! | `begin` | where a group, and each assignment, begins |
//! | `fetch` | reading |
//! | `commit` | committing |
//! | `sure` | until when what was taken is surely ours |

mod begin;
mod broker;
mod classic;
mod commit;
mod fetch;
mod handover;
mod sure;

use super::cluster::{Cluster, Denied};
use super::group::{Group, Identity, Rebalancing, Refused, Share};
use super::net::Net;
use clearway::backend::{Host, SubscribeRequest};
use clearway::{Envelope, Failure};
use futures_util::future::join;
use leaving::{Handover, Leaving};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use tokio::sync::Notify;

#[path = "../../../../../src/backend/kafka/poller/leaving.rs"]
#[allow(dead_code, reason = "what only the bus's own backend needs")]
mod leaving;

/// Between two tries of what the broker did not answer.
const AGAIN: Duration = Duration::from_millis(100);
/// How long the broker may refuse the last commit.
const LAST_LIMIT: Duration = Duration::from_secs(3);

/// One consumer's client, shared by its tasks and the consumer.
pub(super) struct Client {
    pub(super) net: Net,
    pub(super) host: Arc<dyn Host>,
    pub(super) request: SubscribeRequest,
    /// The topic that it was when it was subscribed to.
    pub(super) topic: u64,
    state: Mutex<State>,
    /// Held by who commits.
    committing: tokio::sync::Mutex<()>,
    /// The member has something to do.
    ordered: Notify,
    /// There is something to commit, or to end.
    woken: Notify,
    /// There is something else to read, or room for it.
    reads: Notify,
}

/// What the tasks and the consumer tell each other.
#[derive(Default)]
pub(super) struct State {
    pub(super) news: VecDeque<News>,
    pub(super) fetched: VecDeque<Fetched>,
    pub(super) waker: Option<Waker>,
    pub(super) sure_until: Duration,
    pub(super) ended: bool,
    /// Its connection was closed: the consumer is told so when nothing else is left to tell.
    pub(super) is_disconnected: bool,
    identity: Option<Identity>,
    /// When the coordinator answered us last.
    heard: Duration,
    owned: BTreeMap<u32, Owned>,
    /// The generation in which that was dealt out. It is a member of a later one while it waits for its share of that.
    dealt_in: u64,
    leaving: Leaving,
    /// Partitions, epochs, and what is to be committed of them.
    released: VecDeque<(u32, u64, Option<u64>)>,
    rebalances: u64,
    /// Where what was assigned begins is not known yet.
    assigning: bool,
    /// Where a group that was new begins, in partitions without a commit.
    starts: BTreeMap<u32, u64>,
    to_commit: VecDeque<Vec<Commit>>,
    /// What to commit for the last time.
    closing: Option<Vec<Commit>>,
    /// That is committed, or given up: it is a member no longer than that.
    has_committed: bool,
    failed: bool,
    /// The topic is not there any more: nothing is committed.
    gone: bool,
}

/// A partition that is ours.
#[derive(Clone, Copy, Debug)]
struct Owned {
    epoch: u64,
    /// Behind what was read last. `None`: with the oldest that is kept.
    next: Option<u64>,
}

/// What happened.
#[derive(Debug)]
pub(super) enum News {
    /// These partitions are ours, where each begins if that is known, and whether the broker has that as the group's commit.
    Assigned(u64, Vec<(u32, Option<u64>, bool)>),
    /// These are to be released.
    Revoked(u64, Vec<u32>),
    /// It is another's: answers are void.
    Gone(u32, u64),
    /// A commit counts.
    Committed(u32, u64),
    /// Commits do not.
    CommitFailed(Vec<u32>),
    /// The consumer is no good any more.
    Failed(Failure),
}

/// What a partition gives, in its order.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) partition: u32,
    pub(super) epoch: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Delivery(u64, Envelope),
    /// From `seen` to `offset` there is no envelope.
    End {
        seen: Option<u64>,
        offset: u64,
    },
}

/// What is settled of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commit {
    pub(super) partition: u32,
    pub(super) epoch: u64,
    pub(super) offset: u64,
}

/// How one membership ended.
enum Over {
    /// It is told to end.
    Closing,
    /// It is no member any more: another begins.
    Lost(Refused),
}

impl Client {
    /// A client that has settled where its group begins, and its tasks.
    pub(super) async fn start(
        net: Net,
        host: Arc<dyn Host>,
        request: SubscribeRequest,
    ) -> Result<Arc<Self>, Failure> {
        let name = request.topic.name.clone();
        let found = net
            .ask(move |cluster, _| cluster.topic(&name).map(|topic| topic.id))
            .await?;
        let topic = found.ok_or(Denied::NoTopic.failure())?;
        let client = Arc::new(Self {
            net,
            host,
            request,
            topic,
            state: Mutex::default(),
            committing: tokio::sync::Mutex::new(()),
            ordered: Notify::new(),
            woken: Notify::new(),
            reads: Notify::new(),
        });
        client.begin().await?;
        client.heard();
        client.state().sure_until = client.net.now() + client.net.settings().silence();
        client.net.spawn("kafka-member", client.clone().run());
        client.net.spawn("kafka-fetch", client.clone().fetch());
        client.net.spawn("kafka-commit", client.clone().commits());
        client.net.spawn("kafka-sure", client.clone().sure());
        Ok(client)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Has the tasks look again.
    pub(super) fn wake(&self) {
        self.ordered.notify_one();
        self.woken.notify_waiters();
        self.reads.notify_waiters();
    }

    /// There is room for more.
    pub(super) fn read_on(&self) {
        self.reads.notify_waiters();
    }

    /// Its connection was closed.
    pub(super) fn disconnect(&self) {
        self.state().is_disconnected = true;
        self.tell([]);
    }

    /// Tells the consumer something.
    fn tell(&self, news: impl IntoIterator<Item = News>) {
        let mut state = self.state();
        state.news.extend(news);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Is to commit these, leave the group and end. The first time counts.
    pub(super) fn close(&self, commits: Vec<Commit>) {
        self.state().closing.get_or_insert(commits);
        self.wake();
    }

    fn is_closing(&self) -> bool {
        self.state().closing.is_some()
    }

    fn has_committed(&self) -> bool {
        self.state().has_committed
    }

    fn ask_group<R: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Group, Duration) -> Result<R, Refused> + Send + 'static,
    ) -> impl Future<Output = Result<Result<R, Denied>, Failure>> + Send {
        let (topic, id) = (self.request.topic.name.clone(), self.topic);
        let group = self.request.group.clone();
        self.net.ask(move |cluster: &mut Cluster, now| {
            let group = cluster.group(&topic, id, &group)?;
            what(group, now).map_err(Denied::Group)
        })
    }

    /// Is a member until it is told to end and has committed for the last time. Both go on side by side: whoever does not hear of a new
    /// generation has its last commit refused.
    async fn run(self: Arc<Self>) {
        join(self.belong(), self.commit_last()).await;
        self.leave().await;
    }

    async fn belong(&self) {
        loop {
            let over = match self.net.settings().rebalancing {
                Rebalancing::Broker => self.be_dealt_to().await,
                Rebalancing::Eager | Rebalancing::Cooperative => self.join_in_turn().await,
            };
            match over {
                Over::Closing => return,
                Over::Lost(why) => {
                    if why == Refused::Inconsistent {
                        self.fail(Denied::Group(why).failure());
                    }
                    self.lose("the group took this member for gone");
                }
            }
            if self.is_closing() {
                return;
            }
            self.net.sleep(AGAIN).await;
        }
    }

    /// Waits until it is told to end, and commits what there is then.
    async fn commit_last(&self) {
        self.closing().await;
        let until = self.net.now() + LAST_LIMIT;
        self.commit_ordered().await;
        let _nobody_else = self.committing.lock().await;
        let commits = self.state().closing.clone().unwrap_or_default();
        let mut left = self.current(&commits);
        while !left.is_empty() {
            left = self.commit_places(left).await;
            if self.state().gone || self.net.now() >= until {
                break;
            }
            if !left.is_empty() {
                self.net.sleep(AGAIN / 2).await;
            }
        }
        self.state().has_committed = true;
        self.wake();
    }

    /// Out of the group.
    async fn leave(&self) {
        self.abandon_handovers();
        let identity = self.state().identity.take();
        if let Some(Identity { member, .. }) = identity {
            let (topic, group) = (self.request.topic.name.clone(), self.request.group.clone());
            let left = self
                .net
                .ask(move |cluster, now| cluster.leave(now, &topic, &group, member));
            let _ = left.await;
        }
        self.state().ended = true;
        self.wake();
        self.tell([]);
    }

    /// These are ours from here on, as soon as the broker says where each begins.
    async fn assign(&self, partitions: &Share) {
        self.state().rebalances += 1;
        self.abandon_handovers();
        if partitions.is_empty() {
            return;
        }
        // Behind an assignment that waits there may be more to hear: that it is lost.
        self.state().assigning = true;
        let places = self.places(partitions).await;
        self.state().assigning = false;
        let Some(places) = places else {
            return;
        };
        let epoch = self.net.shared.next_epoch();
        let mut state = self.state();
        for (partition, start, _) in &places {
            let next = *start;
            state.owned.insert(*partition, Owned { epoch, next });
        }
        drop(state);
        self.tell([News::Assigned(epoch, places)]);
        self.read_on();
    }

    /// The topic is not there: the bus is to make sure of it.
    fn miss(&self) {
        let before = std::mem::replace(&mut self.state().gone, true);
        if !before {
            self.host.topic_missing(&self.request.topic.name);
        }
        self.fail(Denied::NoTopic.failure());
    }

    /// It is no good any more, and says so once.
    fn fail(&self, failure: Failure) {
        let before = std::mem::replace(&mut self.state().failed, true);
        if !before {
            self.tell([News::Failed(failure)]);
        }
    }
}
