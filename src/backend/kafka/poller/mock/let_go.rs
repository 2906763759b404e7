//! Let go: the bus did not wait for the thread any longer, and may be closed.

use super::*;

/// What happens to it then is nobody's news: neither its topic, nor its partitions.
#[test]
fn a_thread_that_was_let_go_tells_the_bus_nothing() {
    for let_go in [false, true] {
        let mut scene = Scene::begin(Rebalancing::Eager);
        if let_go {
            scene.wire.let_go.say(());
        }
        scene.poller.take(Happened::Revoke {
            partitions: vec![0, 1, 2],
            lost: true,
        });
        scene.poller.miss();
        let told = scene.witness.events.lock().len() + scene.witness.missing.lock().len();
        assert_eq!(told, if let_go { 0 } else { 2 });
        assert_eq!(scene.assignment(), 0, "it goes all the same");
    }
}
