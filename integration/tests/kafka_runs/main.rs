//! A bus on a real Apache Kafka while something is done to it: each run is a history that the checker judges.

mod cluster;
mod console;
mod deleted;
mod gaps;
mod group;
mod growing;
mod members;
mod scene;
mod single;
mod twice;
