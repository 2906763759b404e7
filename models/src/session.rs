//! Model of `src/protocol/session.rs`. Each test is named after the invariant it checks.

use super::engine::{Canary, Model, Oracle, block_on, event, sometimes, thread};
use super::session::{Retired, Sessions};
use std::future::poll_fn;
use std::sync::Arc;

/// One model for each invariant.
pub const MODELS: &[Model] = &[
    Model::new(
        "session",
        "connection_and_producer_belong_together",
        connection_and_producer_belong_together,
    )
    .goals(&["the old pair", "the new pair"]),
    Model::new(
        "session",
        "one_session_per_operation",
        one_session_per_operation,
    )
    .goals(&["replaced while leased", "the new one"]),
    Model::new(
        "session",
        "nobody_uses_a_retired_session",
        nobody_uses_a_retired_session,
    )
    .goals(&["used the old", "used the new"])
    .bound(3),
    Model::new(
        "session",
        "a_retired_session_is_not_leased_by_who_kept_it",
        a_retired_session_is_not_leased_by_who_kept_it,
    )
    .goals(&["used the kept one", "refused, used the new one"]),
    Model::new(
        "session",
        "each_session_closed_once",
        each_session_closed_once,
    )
    .goals(&["reconnected before close", "finished after close"]),
    Model::new("session", "one_reconnect_per_loss", one_reconnect_per_loss)
        .goals(&["replaced once", "replaced twice"]),
    Model::new("session", "no_session_after_close", no_session_after_close).goals(&[
        "finished before close",
        "handed back",
        "leased before close",
    ]),
    Model::new("session", "last_lease_wakes", last_lease_wakes)
        .goals(&["waited for a lease", "nobody had one"])
        .bound(4),
];

/// A connection and the producer made over it.
struct Pair {
    connection: u64,
    producer: u64,
    used: Canary,
    closed: Oracle,
}

fn pair(number: u64) -> Pair {
    Pair {
        connection: number,
        producer: number,
        used: Canary::new(),
        closed: Oracle::new(),
    }
}

fn sessions() -> Arc<Sessions<Pair>> {
    Arc::new(Sessions::new(pair(1)))
}

/// Waits until nobody has a lease and closes the session.
fn close(retired: Retired<Pair>) {
    block_on(poll_fn(|cx| {
        retired.poll_unused(cx).map(|pair| {
            event(format!("closes {}", pair.connection));
            pair.used.write();
            pair.closed.add();
        })
    }));
}

/// Replaces the first session by the second and closes the first.
fn reconnect(sessions: &Sessions<Pair>) {
    let ticket = sessions.reconnect(1);
    let ticket = ticket.expect("one_reconnect_per_loss: a loss nobody else saw gives no ticket");
    if let Ok(old) = ticket.finish(pair(2)) {
        close(old);
    }
}

fn connection_and_producer_belong_together() {
    let sessions = sessions();
    let reconnector = thread::spawn_named("reconnector", {
        let sessions = sessions.clone();
        move || reconnect(&sessions)
    });
    for _ in 0..2 {
        let lease = sessions.lease();
        let lease = lease.expect("connection_and_producer_belong_together: nobody closed");
        assert!(
            lease.connection == lease.producer && lease.generation() == lease.connection,
            "connection_and_producer_belong_together: connection {} with producer {} of session {}",
            lease.connection,
            lease.producer,
            lease.generation(),
        );
        sometimes(match lease.connection {
            1 => "the old pair",
            _ => "the new pair",
        });
    }
    reconnector.join().unwrap();
}

/// What a lease shows stays the same, and alive, while a reconnect replaces it.
fn one_session_per_operation() {
    let sessions = sessions();
    let reconnector = thread::spawn_named("reconnector", {
        let sessions = sessions.clone();
        move || reconnect(&sessions)
    });
    let lease = sessions.lease();
    let lease = lease.expect("one_session_per_operation: nobody closed");
    let first = lease.connection;
    let current = sessions.lease().map_or(0, |now| now.connection);
    lease.used.read();
    assert!(
        lease.connection == first && lease.closed.count() == 0,
        "one_session_per_operation: session {first} changed or closed under its lease"
    );
    match (first, current) {
        (1, 1) => {}
        (1, 2) => sometimes("replaced while leased"),
        (2, 2) => sometimes("the new one"),
        other => panic!("one_session_per_operation: current were, in turn, {other:?}"),
    }
    drop(lease);
    reconnector.join().unwrap();
}

/// Two publishers use whatever is current while it is replaced and then closed.
fn nobody_uses_a_retired_session() {
    let sessions = sessions();
    let publishers = ["publisher a", "publisher b"].map(|name| {
        let sessions = sessions.clone();
        thread::spawn_named(name, move || {
            let lease = sessions.lease();
            let lease = lease.expect("nobody_uses_a_retired_session: nobody closed");
            event(format!("uses {}", lease.connection));
            lease.used.read();
            assert!(
                lease.closed.count() == 0,
                "nobody_uses_a_retired_session: session {} was closed under its lease",
                lease.connection
            );
            sometimes(match lease.connection {
                1 => "used the old",
                _ => "used the new",
            });
        })
    });
    reconnect(&sessions);
    for publisher in publishers {
        publisher.join().unwrap();
    }
}

/// A publisher leases the session that it has kept while a reconnect replaces it, twice.
fn a_retired_session_is_not_leased_by_who_kept_it() {
    let sessions = sessions();
    let publisher = thread::spawn_named("publisher", {
        let (sessions, kept) = (sessions.clone(), sessions.keep());
        move || {
            for _ in 0..2 {
                if let Some(lease) = kept.lease() {
                    event("uses the kept one");
                    lease.used.read();
                    assert!(
                        lease.generation() == 1 && lease.closed.count() == 0,
                        "a_retired_session_is_not_leased_by_who_kept_it: closed under its lease"
                    );
                    sometimes("used the kept one");
                    continue;
                }
                let lease = sessions.lease();
                assert_eq!(
                    lease.map(|lease| lease.generation()),
                    Some(2),
                    "a_retired_session_is_not_leased_by_who_kept_it: refused, and not replaced"
                );
                sometimes("refused, used the new one");
            }
        }
    });
    reconnect(&sessions);
    publisher.join().unwrap();
    let kept = sessions.keep();
    drop(sessions.close());
    assert!(
        kept.lease().is_none() && sessions.keep().lease().is_none(),
        "a_retired_session_is_not_leased_by_who_kept_it: leased after close"
    );
}

/// A reconnect finishes while two close. Every session that was made is closed, and once.
fn each_session_closed_once() {
    let sessions = sessions();
    let closed = Arc::new([Oracle::new(), Oracle::new(), Oracle::new()]);
    let end = |closed: &[Oracle; 3], generation: u64| {
        closed[generation as usize].add();
    };
    let reconnector = thread::spawn_named("reconnector", {
        let (sessions, closed) = (sessions.clone(), closed.clone());
        move || {
            let Some(ticket) = sessions.reconnect(1) else {
                // Closed first: the second session was never made.
                return end(&closed, 2);
            };
            match ticket.finish(pair(2)) {
                Ok(old) => {
                    sometimes("reconnected before close");
                    end(&closed, old.generation());
                }
                Err(new) => {
                    sometimes("finished after close");
                    end(&closed, new.connection);
                }
            }
        }
    });
    let closer = thread::spawn_named("closer", {
        let (sessions, closed) = (sessions.clone(), closed.clone());
        move || {
            if let Some(last) = sessions.close() {
                end(&closed, last.generation());
            }
        }
    });
    if let Some(last) = sessions.close() {
        end(&closed, last.generation());
    }
    reconnector.join().unwrap();
    closer.join().unwrap();
    let counts = closed.each_ref().map(Oracle::count);
    assert_eq!(
        counts,
        [0, 1, 1],
        "each_session_closed_once: times closed, by session"
    );
}

/// Two see the first session lost; a third sees the loss of the second the moment it is there.
fn one_reconnect_per_loss() {
    let sessions = sessions();
    drop(sessions.reconnect(1)); // given up: another may try
    let made = Arc::new(Oracle::new());
    let reconnectors = ["reconnector a", "reconnector b"].map(|name| {
        let (sessions, made) = (sessions.clone(), made.clone());
        thread::spawn_named(name, move || {
            if let Some(ticket) = sessions.reconnect(1) {
                event("has the ticket");
                assert_eq!(
                    made.add(),
                    1,
                    "one_reconnect_per_loss: two tickets for one loss"
                );
                drop(ticket.finish(pair(2)));
            }
        })
    });
    let seen = sessions.lease().map_or(0, |lease| lease.generation());
    if seen == 2 {
        let ticket = sessions.reconnect(2);
        let ticket = ticket
            .expect("one_reconnect_per_loss: the loss of the second session gives nobody a ticket");
        sometimes("replaced twice");
        drop(ticket.finish(pair(3)));
    }
    for reconnector in reconnectors {
        reconnector.join().unwrap();
    }
    assert_eq!(
        made.count(),
        1,
        "one_reconnect_per_loss: nobody got a ticket"
    );
    let expected = if seen == 2 { 3 } else { 2 };
    assert_eq!(
        sessions.generation(),
        expected,
        "one_reconnect_per_loss: the generation"
    );
    if expected == 2 {
        sometimes("replaced once");
    }
}

/// A reconnect finishes while the bus closes, and a publisher comes along.
fn no_session_after_close() {
    let sessions = sessions();
    let closed = Arc::new(Oracle::new());
    let reconnector = thread::spawn_named("reconnector", {
        let sessions = sessions.clone();
        move || {
            let Some(ticket) = sessions.reconnect(1) else {
                return;
            };
            sometimes(match ticket.finish(pair(2)) {
                Ok(_) => "finished before close",
                Err(_) => "handed back",
            });
        }
    });
    let publisher = thread::spawn_named("publisher", {
        let (sessions, closed) = (sessions.clone(), closed.clone());
        move || {
            let was_closed = closed.count() == 1;
            if sessions.lease().is_some() {
                sometimes("leased before close");
                assert!(
                    !was_closed,
                    "no_session_after_close: leased though close had returned before"
                );
            }
        }
    });
    drop(sessions.close());
    closed.set(1);
    event("close returned");
    assert!(
        sessions.lease().is_none(),
        "no_session_after_close: the closer itself got a lease"
    );
    reconnector.join().unwrap();
    publisher.join().unwrap();
    assert!(
        sessions.lease().is_none() && sessions.reconnect(2).is_none(),
        "no_session_after_close: a late reconnect brought a session back"
    );
}

/// Two publishers bring their leases back while the closer waits. A lost wake is a deadlock.
fn last_lease_wakes() {
    let sessions = sessions();
    let publishers = ["publisher a", "publisher b"].map(|name| {
        let sessions = sessions.clone();
        thread::spawn_named(name, move || {
            if let Some(lease) = sessions.lease() {
                event("leased");
                drop(lease);
            }
        })
    });
    let last = sessions.close();
    let last = last.expect("last_lease_wakes: nobody else closes");
    let mut looks = 0;
    block_on(poll_fn(|cx| {
        looks += 1;
        last.poll_unused(cx).map(|_| ())
    }));
    sometimes(if looks > 1 {
        "waited for a lease"
    } else {
        "nobody had one"
    });
    for publisher in publishers {
        publisher.join().unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::{check, find};
    use super::MODELS;

    #[test]
    fn connection_and_producer_belong_together() {
        check(find(MODELS, "connection_and_producer_belong_together"));
    }

    #[test]
    fn one_session_per_operation() {
        check(find(MODELS, "one_session_per_operation"));
    }

    #[test]
    fn nobody_uses_a_retired_session() {
        check(find(MODELS, "nobody_uses_a_retired_session"));
    }

    #[test]
    fn a_retired_session_is_not_leased_by_who_kept_it() {
        check(find(
            MODELS,
            "a_retired_session_is_not_leased_by_who_kept_it",
        ));
    }

    #[test]
    fn each_session_closed_once() {
        check(find(MODELS, "each_session_closed_once"));
    }

    #[test]
    fn one_reconnect_per_loss() {
        check(find(MODELS, "one_reconnect_per_loss"));
    }

    #[test]
    fn no_session_after_close() {
        check(find(MODELS, "no_session_after_close"));
    }

    #[test]
    fn last_lease_wakes() {
        check(find(MODELS, "last_lease_wakes"));
    }
}
