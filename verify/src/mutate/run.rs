//! The run: the mutants of one protocol after another, with verdicts of earlier runs where nothing
//! has changed.

use super::build::{Bench, MutateError};
use super::cache::{self, Cache, Key};
use super::judge::{Stage, Verdict, control, judge};
use super::operator::{Mutant, mutants};
use super::reasons::Reasons;
use super::result::{MutantReport, Mutants, ProtocolMutants};
use super::source::Source;
use crate::tree::Tree;
use crate::work::{self, Progress};
use std::fs;

/// What is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Full depth also for those with a reason.
    pub full: bool,
}

/// Runs all mutants of `protocols` and keeps what came of them.
///
/// # Errors
///
/// When a source or a reason cannot be read, the crate does not build, or an original does not pass.
pub fn run(
    tree: &Tree,
    protocols: &[&str],
    options: Options,
    progress: &Progress,
) -> Result<Mutants, MutateError> {
    let bench = Bench::new(tree);
    let _alone = crate::bugs::lock(bench.folder(), "the mutants", progress)?;
    let mut cache = Cache::open(tree);
    let mut found = Mutants::default();
    for protocol in protocols {
        let of = of_protocol(tree, &bench, protocol, options, &mut cache, progress)?;
        found.protocols.push(of);
        // What cannot be kept is run again next time.
        _ = cache.save();
        _ = found.save(tree);
    }
    Ok(found)
}

fn of_protocol(
    tree: &Tree,
    bench: &Bench,
    protocol: &str,
    options: Options,
    cache: &mut Cache,
    progress: &Progress,
) -> Result<ProtocolMutants, MutateError> {
    let checksum = cache::all(tree, protocol);
    let path = tree.source(protocol);
    let unread = |error: &dyn std::fmt::Display| {
        MutateError::Source(format!("{}: {error}", tree.show(&path)))
    };
    let text = fs::read_to_string(&path).map_err(|error| unread(&error))?;
    let source = Source::parse(&text).map_err(|error| unread(&error))?;
    let reasons = Reasons::load(tree, protocol).map_err(MutateError::Source)?;
    let all = mutants(&source);
    let judges = cache::judges(tree, protocol);
    let key = |mutant: &Mutant| Key::new(protocol, &mutant.name, judges, &mutant.applied(&source));
    let is_deep = |mutant: &Mutant| options.full || reasons.of(&mutant.name).is_none();
    let known = |cache: &Cache, mutant: &Mutant| cache.find(&key(mutant), is_deep(mutant)).cloned();

    let open: Vec<(u32, &Mutant)> = (1..)
        .zip(&all)
        .filter(|(_, mutant)| known(cache, mutant).is_none())
        .collect();
    let mut fresh = Vec::new();
    if !open.is_empty() {
        let (count, new) = (all.len(), open.len());
        progress.step(&format!(
            "{protocol}: {count} mutants, {new} of them to be run"
        ));
        let broken = bench.build(protocol, &source, &all, progress)?;
        let (unbuilt, built): (Vec<_>, Vec<_>) = open
            .into_iter()
            .partition(|(number, _)| broken.contains_key(number));
        for (number, mutant) in unbuilt {
            let error = broken[&number].clone();
            fresh.push((mutant, Verdict::Unbuilt { error }));
        }
        let judged = judge_all(bench, protocol, &built, is_deep, progress)?;
        fresh.extend(built.iter().map(|(_, mutant)| *mutant).zip(judged));
        for (mutant, verdict) in &fresh {
            cache.remember(key(mutant), verdict);
        }
    }
    let reports = all.iter().map(|mutant| {
        let run = fresh.iter().find(|(of, _)| of.name == mutant.name);
        let verdict = run
            .map(|(_, verdict)| verdict.clone())
            .or_else(|| known(cache, mutant));
        MutantReport {
            name: mutant.name.clone(),
            verdict: verdict.expect("what is not known was run"),
            reason: reasons.of(&mutant.name).map(str::to_owned),
        }
    });
    let reports: Vec<MutantReport> = reports.collect();
    Ok(ProtocolMutants {
        protocol: protocol.to_owned(),
        checksum,
        complaints: stale(&reasons, &reports),
        mutants: reports,
    })
}

/// The quick judges for all, and full depth for what is left and has no reason.
fn judge_all(
    bench: &Bench,
    protocol: &str,
    built: &[(u32, &Mutant)],
    is_deep: impl Fn(&Mutant) -> bool,
    progress: &Progress,
) -> Result<Vec<Verdict>, MutateError> {
    let program = bench.program(protocol);
    let controlled = |stages: &[Stage]| {
        control(&program, stages).map_err(|why| MutateError::Control {
            protocol: protocol.to_owned(),
            why,
        })
    };
    progress.step(&format!("{protocol}: {} mutants compile", built.len()));
    let quick = controlled(&Stage::QUICK)?;
    let name = |(_, mutant): &(u32, &Mutant)| format!("{protocol}: {}", mutant.name);
    let mut verdicts = work::all(built, progress, name, |(number, _)| {
        judge(&program, *number, &quick)
    });
    let left: Vec<usize> = (0..built.len())
        .filter(|at| !verdicts[*at].is_kill() && is_deep(built[*at].1))
        .collect();
    if left.is_empty() {
        return Ok(verdicts);
    }
    progress.step(&format!(
        "{protocol}: full depth for {} that are left",
        left.len()
    ));
    let mut full = controlled(&[Stage::LoomFull, Stage::ShuttleFull])?;
    full.extend(quick.iter().filter(|(stage, _)| *stage == Stage::Histories));
    let deep = work::all(
        &left,
        progress,
        |at| name(&built[*at]),
        |at| judge(&program, built[*at].0, &full),
    );
    for (at, verdict) in left.into_iter().zip(deep) {
        verdicts[at] = verdict;
    }
    Ok(verdicts)
}

/// Reasons for what is no survivor.
fn stale(reasons: &Reasons, reports: &[MutantReport]) -> Vec<String> {
    let says = |name: &str| match reports.iter().find(|report| report.name == name) {
        None => Some(format!(
            "verify/mutants has a reason for `{name}`, and there is no such mutant"
        )),
        Some(report) => match &report.verdict {
            Verdict::Killed(kill) => Some(format!(
                "verify/mutants has a reason for `{name}`, and {} kills it: {}",
                kill.engine, kill.message
            )),
            Verdict::TimedOut { .. } => Some(format!(
                "verify/mutants has a reason for `{name}`, and it does not end"
            )),
            Verdict::Unbuilt { .. } => Some(format!(
                "verify/mutants has a reason for `{name}`, and it does not compile"
            )),
            Verdict::Survived { .. } | Verdict::Broken { .. } => None,
        },
    };
    reasons.names().filter_map(says).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::Kill;

    #[test]
    fn a_reason_that_names_no_survivor_is_a_complaint() {
        let report = |name: &str, verdict| MutantReport {
            name: name.to_owned(),
            verdict,
            reason: None,
        };
        let kill = Kill {
            engine: "loom".to_owned(),
            invariant: "bounded".to_owned(),
            message: "bounded: no".to_owned(),
            executions: 3,
        };
        let reports = [
            report(
                "left",
                Verdict::Survived {
                    executions: 1,
                    full: true,
                },
            ),
            report("killed", Verdict::Killed(kill)),
            report(
                "unbuilt",
                Verdict::Unbuilt {
                    error: "E0382".to_owned(),
                },
            ),
        ];
        let complaints = |text| stale(&Reasons::parse(text).unwrap(), &reports);
        assert!(complaints("left\n  why\n").is_empty());
        assert!(complaints("killed\n  why\n")[0].contains("loom kills it"));
        assert!(complaints("unbuilt\n  why\n")[0].contains("does not compile"));
        assert!(complaints("gone\n  why\n")[0].contains("there is no such mutant"));
    }
}
