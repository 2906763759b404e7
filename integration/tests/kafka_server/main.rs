//! The Kafka of the tests itself: each fault really happens and ends, and nothing is left behind.

mod faults;
mod life;
mod tools;
