//! The table: what was measured, beside what it replaces and beside its target.

/// One line of the table.
pub(crate) struct Row {
    number: &'static str,
    metric: String,
    figures: String,
    value: f64,
    bound: Bound,
    disturbed: bool,
}

/// What a value is held against.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    /// To be reached: what is aimed at, and what must not be missed.
    AtLeast(f64, f64),
    /// Not to be passed.
    AtMost(f64, f64),
    /// Printed for what it is; there is no target.
    None,
}

/// The rows so far, and whether the machine was busy while the next ones were measured.
pub(crate) struct Table {
    rows: Vec<Row>,
    disturbed: bool,
}

impl Table {
    pub(crate) fn new() -> Self {
        println!(
            "{:>3} | {:<54} | {:<40} | {:>10} | {:>10} | {:>10} |",
            "#", "metric", "figures", "value", "target", "floor"
        );
        Self {
            rows: Vec::new(),
            disturbed: false,
        }
    }

    /// What is put down from here on was measured while the machine was busy, or was not: then a row
    /// says so and is held against nothing.
    pub(crate) fn disturbed(&mut self, disturbed: bool) {
        self.disturbed = disturbed;
    }

    /// A ratio: the locked figure over ours.
    pub(crate) fn ratio(
        &mut self,
        number: &'static str,
        metric: &str,
        locked: f64,
        ours: f64,
        bound: Bound,
    ) {
        let figures = format!("locked {} ns, ours {} ns", short(locked), short(ours));
        self.value(number, metric, figures, locked / ours, bound);
    }

    pub(crate) fn value(
        &mut self,
        number: &'static str,
        metric: &str,
        figures: String,
        value: f64,
        bound: Bound,
    ) {
        let row = Row {
            number,
            metric: metric.into(),
            figures,
            value,
            bound,
            disturbed: self.disturbed,
        };
        row.print();
        self.rows.push(row);
    }

    /// A row that cannot be measured here, and why.
    pub(crate) fn absent(&mut self, number: &'static str, metric: &str, why: &str) {
        println!("{number:>3} | {metric:<54} | absent: {why}");
    }

    /// The last line: what was met. Says whether no floor was missed.
    pub(crate) fn close(self) -> bool {
        let count = |verdict: Verdict| {
            self.rows
                .iter()
                .filter(|row| row.verdict() == verdict)
                .count()
        };
        let (met, missed) = (count(Verdict::Met), count(Verdict::Missed));
        let (below, disturbed) = (count(Verdict::BelowFloor), count(Verdict::Disturbed));
        println!(
            "bench: {met} targets met, {missed} missed above the floor, {below} below the floor, {disturbed} disturbed"
        );
        below == 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Met,
    Missed,
    BelowFloor,
    Disturbed,
    Said,
}

impl Row {
    fn verdict(&self) -> Verdict {
        let (met, above) = match self.bound {
            Bound::AtLeast(target, floor) => (self.value >= target, self.value >= floor),
            Bound::AtMost(target, floor) => (self.value <= target, self.value <= floor),
            Bound::None => return Verdict::Said,
        };
        match (met, above) {
            (true, _) => Verdict::Met,
            _ if self.disturbed => Verdict::Disturbed,
            (false, true) => Verdict::Missed,
            (false, false) => Verdict::BelowFloor,
        }
    }

    fn print(&self) {
        let (target, floor) = match self.bound {
            Bound::AtLeast(target, floor) => (
                format!(">= {}", short(target)),
                format!(">= {}", short(floor)),
            ),
            Bound::AtMost(target, floor) => (
                format!("<= {}", short(target)),
                format!("<= {}", short(floor)),
            ),
            Bound::None => ("-".into(), "-".into()),
        };
        let verdict = match self.verdict() {
            Verdict::Met => "pass",
            Verdict::Missed => "MISSED",
            Verdict::BelowFloor => "FAIL",
            Verdict::Disturbed => "disturbed",
            Verdict::Said => "",
        };
        println!(
            "{:>3} | {:<54} | {:<40} | {:>10} | {:>10} | {:>10} | {verdict}",
            self.number,
            self.metric,
            self.figures,
            short(self.value),
            target,
            floor
        );
    }
}

/// Two digits where they matter, none where they do not.
pub(crate) fn short(value: f64) -> String {
    if value >= 1000.0 || value == 0.0 {
        format!("{value:.0}")
    } else if value >= 20.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}
