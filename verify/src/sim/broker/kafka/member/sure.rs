//! Sure: until when what was taken is surely ours.
//!
//! Whoever has not looked for a while may have stood still with his process, and does not know yet what he has lost. After such a silence
//! only the broker's word counts: it takes a commit, which changes nothing, of a member only.

use super::{AGAIN, Client};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

impl Client {
    pub(super) async fn sure(self: Arc<Self>) {
        let silence = self.net.settings().silence();
        let (mut heard, mut in_doubt) = (self.net.now(), false);
        loop {
            let now = self.net.now();
            in_doubt |= now >= heard + silence;
            if in_doubt && self.is_ours().await {
                in_doubt = false;
                heard = now;
            }
            if self.state().ended {
                return;
            }
            if in_doubt {
                self.net.sleep(AGAIN).await;
                continue;
            }
            if self.note_sure(now + silence) {
                heard = now;
            }
            self.net.sleep(silence / 8).await;
        }
    }

    /// Notes until when we are sure, if there was nothing more to hear.
    fn note_sure(&self, until: Duration) -> bool {
        let mut state = self.state();
        if !state.assigning {
            state.sure_until = until;
        }
        !state.assigning
    }

    /// The broker's word.
    async fn is_ours(&self) -> bool {
        let identity = {
            let state = self.state();
            if state.owned.is_empty() {
                // Nothing of ours can be another's.
                return true;
            }
            state.identity
        };
        let nothing = BTreeMap::new();
        let asked = self.ask_group(move |group, now| group.commit(now, identity, &nothing));
        identity.is_some() && matches!(asked.await, Ok(Ok(())))
    }
}
