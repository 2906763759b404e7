//! Kafka's backend on a mock: librdkafka's own mock of a cluster, in this process, for the inner loop. It stands for no broker, and
//! nothing that passes here counts for one: what a real Kafka does is tried in `make integration`.

mod closing;
mod coming_up;
mod conformance;
mod relay;
mod stranded;
