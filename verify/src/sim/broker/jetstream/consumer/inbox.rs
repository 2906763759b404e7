//! The inbox of a member: what the wire has brought and nobody has read.

use super::*;

/// What the wire has brought.
#[derive(Default)]
pub(in super::super) struct Inbox(Mutex<Mails>);

#[derive(Default)]
struct Mails {
    mails: VecDeque<Mail>,
    is_lost: bool,
    waker: Option<Waker>,
}

impl Inbox {
    pub(in super::super) fn put(&self, mail: Mail) {
        self.with(|mails| mails.mails.push_back(mail));
    }

    pub(in super::super) fn lose(&self) {
        self.with(|mails| mails.is_lost = true);
    }

    fn with(&self, change: impl FnOnce(&mut Mails)) {
        let waker = {
            let mut mails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut mails);
            mails.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// The next, or `None` and the waker is kept. Fails when the connection is lost.
    pub(super) fn take(&self, cx: &Context<'_>) -> Result<Option<Mail>, Failure> {
        let mut mails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if mails.is_lost {
            return Err(disconnected());
        }
        let mail = mails.mails.pop_front();
        if mail.is_none() {
            mails.waker = Some(cx.waker().clone());
        }
        Ok(mail)
    }
}
