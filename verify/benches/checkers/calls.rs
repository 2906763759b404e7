//! Concurrent calls of registers that have a sequential explanation by construction: each takes effect at a moment between its begin and its end.

use clearway_verify::linear::{Call, Spec};

/// A register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Register(pub(crate) u32);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Write(u32, u32),
    Read(u32),
}

pub(crate) type RegisterCall = Call<Op, u32>;

/// Which register an operation is about.
pub(crate) fn key(op: &Op) -> u32 {
    match *op {
        Op::Write(key, _) | Op::Read(key) => key,
    }
}

impl Spec for Register {
    type Op = Op;
    type Ret = u32;

    fn step(&self, op: &Op, ret: Option<&u32>) -> Option<Self> {
        match *op {
            Op::Write(_, value) => Some(Self(value)),
            Op::Read(_) => ret.is_none_or(|&ret| ret == self.0).then(|| self.clone()),
        }
    }

    fn promise(&self, _: &Op, _: Option<&u32>) -> &'static str {
        "reads_the_last_write"
    }
}

/// So many processes call at the same time; they crowd on few keys, so that calls of one key meet.
const PROCESSES: usize = 32;

/// `operations` calls over `keys` registers. Now and then a writer is never heard of again.
pub(crate) fn of_registers(operations: usize, keys: u32, seed: u64) -> Vec<RegisterCall> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut registers = vec![0; keys as usize];
    let mut calls: Vec<RegisterCall> = Vec::with_capacity(operations);
    // By process: its call, and what it answered when it took effect.
    let mut open: Vec<Option<(usize, Option<u32>)>> = vec![None; PROCESSES];
    let mut clock = 0;
    while calls.len() < operations || open.iter().any(Option::is_some) {
        clock += 1;
        let process = chance.usize(..PROCESSES);
        match open[process] {
            None if calls.len() < operations => {
                // A third of all on an eighth of the keys.
                let key = match chance.u32(..3) {
                    0 => chance.u32(..keys.div_ceil(8)),
                    _ => chance.u32(..keys),
                };
                let op = match chance.bool() {
                    true => Op::Write(key, calls.len() as u32 + 1),
                    false => Op::Read(key),
                };
                open[process] = Some((calls.len(), None));
                let begin = clock;
                calls.push(Call {
                    process,
                    op,
                    begin,
                    end: None,
                });
            }
            None => {}
            Some((call, None)) => {
                let register = &mut registers[key(&calls[call].op) as usize];
                let answer = match calls[call].op {
                    Op::Write(_, value) => {
                        *register = value;
                        0
                    }
                    Op::Read(_) => *register,
                };
                open[process] = Some((call, Some(answer)));
            }
            Some((call, Some(answer))) => {
                let is_lost = matches!(calls[call].op, Op::Write(..)) && chance.u32(..2000) == 0;
                calls[call].end = (!is_lost).then_some((clock, answer));
                open[process] = None;
            }
        }
    }
    calls
}

/// One read in the middle answers what nobody has written.
pub(crate) fn spoil(calls: &mut [RegisterCall]) {
    let middle = calls.len() / 2;
    let mut behind = calls[middle..].iter_mut();
    let read = behind.find(|call| matches!(call.op, Op::Read(_)) && call.end.is_some());
    if let Some((_, answer)) = &mut read.expect("half of them are reads").end {
        *answer = u32::MAX;
    }
}
