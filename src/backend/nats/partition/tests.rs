//! The partition's state machine, without a server.

mod again;

use super::*;
use crate::config::TopicConfig;

const PACE: Pace = Pace {
    batch: 8,
    bytes: 8000,
    expires: Duration::from_secs(6),
    heartbeat: Duration::from_secs(2),
    ack_wait: Duration::from_secs(30),
    watch: Duration::from_secs(30),
    lease: Duration::from_secs(15),
};

const NONE: [u64; 0] = [];

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn partition() -> Partition {
    let topic = TopicConfig::new("t");
    let durable = Durable::new("t", &topic, "g", 0, 64, true);
    let standing = Standing {
        floor: 4,
        ..Standing::default()
    };
    Partition::new(0, durable, "then".into(), standing, None, 1)
}

fn fetched(sequence: u64) -> Fetched {
    let reply = Subject::from(format!("$JS.ACK.t.g~t~0.1.{sequence}.9.1000000.0"));
    let message = Message {
        subject: "t.0".into(),
        reply: None,
        payload: Default::default(),
        headers: None,
        status: None,
        description: None,
        length: 0,
    };
    Fetched {
        attempt: 1,
        time_ms: 1,
        reply,
        message,
    }
}

fn deliver(partition: &mut Partition, sequence: u64, now: u64) {
    partition.on_delivery(sequence, fetched(sequence), Some("pin"), at(now));
}

fn standing(unanswered: u64, floor: u64, delivered: u64) -> Standing {
    Standing {
        unanswered,
        floor,
        delivered,
        delivered_count: delivered,
        waiting: 0,
        waits: 0,
        pin: Some("pin".into()),
        is_nobodys: false,
    }
}

fn taken(partition: &mut Partition) -> Vec<u64> {
    std::iter::from_fn(|| partition.take_next().map(|(sequence, _)| sequence)).collect()
}

fn pull(partition: &mut Partition, now: u64) -> Option<u32> {
    let count = partition.wants(at(now), &PACE)?;
    partition.pulled(count, at(now));
    Some(count)
}

/// The server says this; gives what is asked back then, once it was asked.
fn told(partition: &mut Partition, standing: &Standing, now: u64) -> Vec<String> {
    partition.on_standing(standing, at(now), &PACE);
    let mut asked = Vec::new();
    while let Some((subject, last)) = partition.ask() {
        asked.push(subject.to_owned());
        assert_eq!(last, partition.asks.len() == 1);
        assert_eq!(
            partition.wants(at(now), &PACE),
            None,
            "nothing overtakes it"
        );
        partition.asked();
    }
    asked
}

/// A partition that is pinned to us, with nothing left by others.
fn open() -> Partition {
    let mut partition = partition();
    assert_eq!(pull(&mut partition, 0), Some(1), "a probe is one");
    deliver(&mut partition, 5, 0);
    assert_eq!(partition.wants(at(0), &PACE), None, "it looks first");
    assert_eq!(taken(&mut partition), NONE, "and hands out nothing before");
    assert!(told(&mut partition, &standing(1, 4, 5), 0).is_empty());
    assert_eq!(taken(&mut partition), [5]);
    partition
}

#[test]
fn what_another_owner_left_comes_first_and_in_order() {
    let mut partition = partition();
    pull(&mut partition, 0);
    deliver(&mut partition, 8, 0);
    let asked = told(&mut partition, &standing(3, 4, 8), 0);
    // 7 may be answered already; the server knows.
    let subject = |n| format!("$JS.ACK.t.g~t~0.1.{n}.8.0.0");
    assert_eq!(asked, [subject(5), subject(6), subject(7)]);
    assert_eq!(taken(&mut partition), NONE);
    pull(&mut partition, 0);
    deliver(&mut partition, 6, 0);
    assert!(matches!(partition.phase, Phase::Gather { .. }));
    deliver(&mut partition, 5, 0);
    let asked = told(&mut partition, &standing(3, 4, 8), 0);
    assert!(asked.is_empty(), "asked back once");
    assert_eq!(taken(&mut partition), [5, 6, 8]);
}

/// Whoever asks is dropped whenever something else happens, and comes again.
#[test]
fn asking_back_goes_on_where_it_was_and_nothing_is_pulled_before() {
    let mut partition = partition();
    pull(&mut partition, 0);
    deliver(&mut partition, 8, 0);
    partition.on_standing(&standing(3, 4, 8), at(0), &PACE);
    partition.asked();
    partition.on_tick();
    partition.on_standing(&standing(3, 4, 8), at(1), &PACE);
    let subject = |n| format!("$JS.ACK.t.g~t~0.1.{n}.8.0.0");
    assert_eq!(partition.ask(), Some((&*subject(6), false)));
    partition.asked();
    assert_eq!(partition.ask(), Some((&*subject(7), true)));
    assert_eq!(partition.wants(at(1), &PACE), None);
    partition.asked();
    assert_eq!(partition.ask(), None);
    assert_eq!(partition.wants(at(1), &PACE), Some(8));
    // Another owner's now: what was to be asked back is not ours to ask.
    partition.on_tick();
    partition.start_over(2);
    assert_eq!(pull(&mut partition, 1), Some(1));
}

#[test]
fn gathering_looks_again_with_time_and_gives_up_at_last() {
    let mut partition = partition();
    pull(&mut partition, 0);
    deliver(&mut partition, 8, 0);
    partition.on_standing(&standing(3, 4, 8), at(0), &PACE);
    partition.on_tick();
    partition.on_standing(&standing(2, 5, 8), at(30), &PACE);
    assert_eq!(taken(&mut partition), NONE, "one is still with its handler");
    partition.on_tick();
    partition.on_standing(&standing(2, 5, 8), at(66), &PACE);
    assert_eq!(taken(&mut partition), [8]);
}

#[test]
fn a_wide_range_is_not_asked_back() {
    let mut partition = partition();
    pull(&mut partition, 0);
    deliver(&mut partition, 100_000, 0);
    let asked = told(&mut partition, &standing(2, 4, 100_000), 0);
    assert!(asked.is_empty());
    assert!(matches!(partition.phase, Phase::Gather { .. }));
}

#[test]
fn a_redelivery_does_not_run_beside_its_handler_and_takes_one_place() {
    let mut partition = open();
    deliver(&mut partition, 5, 1);
    assert_eq!(taken(&mut partition), NONE, "5 is out");
    deliver(&mut partition, 7, 1);
    deliver(&mut partition, 7, 2);
    deliver(&mut partition, 6, 2);
    assert_eq!(taken(&mut partition), [6, 7]);
    assert_eq!(partition.out.len(), 3);
}

#[test]
fn pulls_keep_the_batch_filled_and_the_pin_alive() {
    let mut partition = open();
    assert_eq!(pull(&mut partition, 1), Some(8));
    assert_eq!(pull(&mut partition, 1), None);
    for sequence in 6..10 {
        deliver(&mut partition, sequence, 1);
    }
    assert_eq!(pull(&mut partition, 1), None, "4 are owed and 4 are ready");
    assert_eq!(taken(&mut partition).len(), 4);
    assert_eq!(pull(&mut partition, 1), Some(4));
    for sequence in 10..18 {
        deliver(&mut partition, sequence, 1);
    }
    assert_eq!(pull(&mut partition, 2), None, "there is no room");
    assert_eq!(pull(&mut partition, 8), Some(1), "but the pin wants a pull");
}

#[test]
fn the_end_of_a_pull_is_not_silence_and_silence_is_looked_into() {
    let mut partition = open();
    pull(&mut partition, 1);
    assert_eq!(
        partition.on_status(100, "Idle Heartbeat", 0, 2, at(3)),
        Heard::Nothing
    );
    assert_eq!(partition.on_silence(at(7), &PACE), None);
    assert_eq!(
        partition.on_status(408, "Request Timeout", 8, 2, at(7)),
        Heard::Nothing
    );
    assert_eq!(pull(&mut partition, 7), Some(8));
    assert_eq!(partition.on_silence(at(11), &PACE), None);
    assert!(partition.on_silence(at(12), &PACE).is_some());
    assert!(matches!(partition.phase, Phase::Look { .. }));
    // Told once, and what that pull still says is of no interest.
    assert_eq!(partition.on_silence(at(30), &PACE), None);
    assert_eq!(partition.on_status(503, "", 0, 3, at(30)), Heard::Nothing);
    assert!(matches!(partition.phase, Phase::Look { .. }));
}

#[test]
fn each_status_means_what_it_says() {
    let status = |code, text: &str| {
        let mut partition = open();
        pull(&mut partition, 1);
        let heard = partition.on_status(code, text, 0, 2, at(1));
        (heard, partition)
    };
    for (code, text) in [(409, "Consumer Deleted"), (503, "No Responders")] {
        let (heard, partition) = status(code, text);
        assert_eq!(heard, Heard::Nothing);
        assert!(matches!(partition.phase, Phase::Broken { .. }), "{code}");
    }
    assert_eq!(status(423, "Nats-Pin-Id mismatch").0, Heard::Taken);
    assert!(matches!(status(400, "Bad Request").0, Heard::Refused(_)));
    let (heard, partition) = status(409, "Leadership Change");
    assert_eq!(heard, Heard::Restart("Leadership Change".into()));
    assert_eq!(partition.wants(at(1), &PACE), None, "not in a storm");
    assert_eq!(partition.out.len(), 1, "what is out stays ours");
}

#[test]
fn a_durable_made_again_begins_with_what_was_not_answered() {
    let mut partition = open();
    deliver(&mut partition, 9, 1);
    assert_eq!(partition.resume_at("then"), Begin::At(5));
    partition.out.clear();
    assert_eq!(partition.resume_at("then"), Begin::At(9));
    taken(&mut partition);
    partition.out.clear();
    assert_eq!(partition.resume_at("then"), Begin::At(10));
    assert_eq!(partition.resume_at("later"), Begin::First, "another stream");
    partition.made_again("later".into());
    partition.start_over(2);
    assert_eq!(partition.resume_at("later"), Begin::At(1));
    assert_eq!(partition.phase, Phase::Probe);
}

#[test]
fn what_waits_here_is_spoken_for_and_counts_no_attempt() {
    let mut partition = open();
    assert!(partition.to_speak_for(at(1000), &PACE).is_empty());
    deliver(&mut partition, 6, 1000);
    deliver(&mut partition, 7, 1005);
    assert!(partition.to_speak_for(at(1009), &PACE).is_empty());
    assert_eq!(partition.to_speak_for(at(1010), &PACE).len(), 2);
    partition.spoke_for(at(1010));
    assert!(partition.to_speak_for(at(1019), &PACE).is_empty());
    // The server has lost patience all the same.
    let again = Fetched {
        attempt: 2,
        ..fetched(6)
    };
    partition.on_delivery(6, again, Some("pin"), at(1011));
    let first = partition
        .take_next()
        .map(|(sequence, it)| (sequence, it.attempt));
    assert_eq!(first, Some((6, 1)));
}

#[test]
fn a_durable_that_is_deleted_while_gathering_begins_with_what_another_left() {
    let mut partition = partition();
    pull(&mut partition, 0);
    deliver(&mut partition, 8, 0);
    assert_eq!(
        partition.resume_at("then"),
        Begin::At(5),
        "nobody has looked"
    );
    partition.on_standing(&standing(3, 5, 8), at(0), &PACE);
    assert_eq!(partition.resume_at("then"), Begin::At(6));
    deliver(&mut partition, 6, 0);
    deliver(&mut partition, 7, 0);
    partition.on_tick();
    partition.on_standing(&standing(3, 5, 8), at(1), &PACE);
    assert_eq!(taken(&mut partition), [6, 7, 8]);
    partition.out.clear();
    assert_eq!(partition.resume_at("then"), Begin::At(9));
}

#[test]
fn what_was_taken_away_unanswered_is_where_a_durable_made_again_begins() {
    let mut partition = open();
    deliver(&mut partition, 9, 1);
    partition.start_over(2);
    assert_eq!(partition.resume_at("then"), Begin::At(5));
    // Another has it, and the server says how far that one is.
    partition.on_watched(&standing(2, 40, 44));
    assert_eq!(partition.resume_at("then"), Begin::At(41));
    assert!(partition.on_given_up(17, "too often", at(2)));
    assert!(
        !partition.on_given_up(18, "too often", at(2)),
        "one word is enough"
    );
    assert_eq!(partition.resume_at("then"), Begin::At(17));
}

#[test]
fn a_durable_is_watched_now_and_then_and_not_while_it_is_made_again() {
    let mut partition = open();
    partition.watches(at(100));
    assert!(!partition.is_to_be_watched(at(129), &PACE));
    assert!(partition.is_to_be_watched(at(130), &PACE));
    partition.break_down("gone", at(130));
    assert!(!partition.is_to_be_watched(at(130), &PACE));
}

#[test]
fn what_is_acknowledged_and_not_confirmed_comes_to_no_handler_again() {
    let mut partition = partition();
    deliver(&mut partition, 5, 1);
    partition.phase = Phase::Open;
    // The server has said that nobody before us left anything.
    partition.left = u64::MAX;
    let (sequence, fetched) = partition.take_next().expect("it is ready");
    partition.acknowledged(sequence, fetched.reply, at(1));
    assert!(partition.out.is_empty());
    assert_eq!(partition.resume_at("then"), Begin::At(5), "it may be lost");

    // Looked for at a tick, and late after the limit.
    let limit = at(5);
    assert!(partition.late(at(100), limit).is_empty());
    partition.on_tick();
    assert!(partition.late(at(5), limit).is_empty());
    assert_eq!(partition.late(at(6), limit).len(), 1);
    partition.acknowledged(5, Subject::from("again"), at(6));
    partition.looked_for_late();

    // It comes again: not for a handler, and at once to be acknowledged.
    deliver(&mut partition, 5, 7);
    assert!(partition.ready.is_empty() && partition.take_next().is_none());
    assert_eq!(partition.late(at(7), limit).len(), 1);

    assert!(partition.confirmed(5) && !partition.confirmed(5));
    assert_eq!(partition.resume_at("then"), Begin::At(6));
}

#[test]
fn what_is_not_confirmed_is_void_with_its_epoch() {
    let mut partition = partition();
    deliver(&mut partition, 5, 1);
    partition.phase = Phase::Open;
    let (sequence, fetched) = partition.take_next().expect("it is ready");
    partition.acknowledged(sequence, fetched.reply, at(1));
    assert_eq!(partition.start_over(2), 1, "it was counted as out");
    assert!(!partition.confirmed(5));
    deliver(&mut partition, 5, 2);
    assert_eq!(partition.ready.len(), 1, "it comes again");
}

#[test]
fn of_large_ones_fewer_are_held_ready() {
    let mut partition = open();
    assert_eq!(pull(&mut partition, 0), Some(8), "nothing is known");
    for sequence in 6..14 {
        let mut large = fetched(sequence);
        large.message.length = 4000;
        partition.on_delivery(sequence, large, Some("pin"), at(0));
    }
    assert_eq!(pull(&mut partition, 0), None, "enough is here");
    assert_eq!(taken(&mut partition).len(), 8);
    assert_eq!(pull(&mut partition, 0), Some(2), "8,000 bytes");
}
