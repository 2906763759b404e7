//! The atomics of the loom and the shuttle facade: the same operations, recorded.

/// An atomic over `$inner` that asks the world for its ordering and tells it what happened.
///
/// Beside the checked value runs a plain one. It takes over while the thread unwinds: a failing
/// execution is over, and a destructor that then enters the checker would abort the process and
/// bury the failure.
macro_rules! recorded_atomic {
    ($name:ident, $inner:path, $plain:ident, $value:ty) => {
        #[doc = concat!("`", stringify!($name), "` under the checker.")]
        pub struct $name {
            checked: $inner,
            loads: LoadsMeet,
            plain: std::sync::atomic::$plain,
            object: usize,
        }

        impl $name {
            /// An atomic that holds `value`.
            pub fn new(value: $value) -> Self {
                Self {
                    checked: <$inner>::new(value),
                    loads: LoadsMeet::default(),
                    plain: std::sync::atomic::$plain::new(value),
                    object: recorder::object(),
                }
            }

            /// As in `std`.
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                if panicking() {
                    return self.plain.load(Ordering::Relaxed);
                }
                let site = Location::caller();
                self.loads.meet();
                let value = self.checked.load(ordering("load", order, site));
                self.tell("load ->", value, Access::Read, site);
                value
            }

            /// As in `std`.
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                if !panicking() {
                    let site = Location::caller();
                    self.checked.store(value, ordering("store", order, site));
                    self.tell("store", value, Access::Write, site);
                }
                self.plain.store(value, Ordering::Relaxed);
            }

            recorded_atomic!(@modify swap, $value);
            recorded_atomic!(@modify fetch_add, $value);
            recorded_atomic!(@modify fetch_sub, $value);
            recorded_atomic!(@modify fetch_or, $value);
            recorded_atomic!(@modify fetch_and, $value);

            /// As in `std`.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                if !panicking() {
                    let site = Location::caller();
                    let success = ordering("compare_exchange", success, site);
                    let failure = ordering("compare_exchange (failure)", failure, site);
                    let outcome = self.checked.compare_exchange(current, new, success, failure);
                    match outcome {
                        Ok(_) => {
                            self.plain.store(new, Ordering::Relaxed);
                            self.tell("compare_exchange to", new, Access::Write, site);
                        }
                        Err(found) => {
                            self.tell("compare_exchange failed on", found, Access::Read, site);
                        }
                    }
                    return outcome;
                }
                let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
                self.plain.compare_exchange(current, new, success, failure)
            }

            /// As in `std`; neither checker fails it without a reason.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }

            // A 32-bit word widens, a 64-bit one is one already.
            #[allow(clippy::unnecessary_cast)]
            fn tell(&self, what: &'static str, value: $value, access: Access, site: Site) {
                recorder::operation(what, value as u64, self.object, access, site);
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.plain.fmt(f)
            }
        }
    };
    (@modify $operation:ident, $value:ty) => {
        /// As in `std`.
        #[track_caller]
        pub fn $operation(&self, value: $value, order: Ordering) -> $value {
            if !panicking() {
                let site = Location::caller();
                let order = ordering(stringify!($operation), order, site);
                let before = self.checked.$operation(value, order);
                let what = concat!(stringify!($operation), " ->");
                self.tell(what, before, Access::Write, site);
                self.plain.$operation(value, Ordering::Relaxed);
                return before;
            }
            self.plain.$operation(value, Ordering::Relaxed)
        }
    };
}

pub(crate) use recorded_atomic;
