//! One node of a Kafka of our own, and what can be done to it.

use super::outside::Outside;
use super::setup::{DATA, Kafka, Place, USER};
use crate::container::{Container, Network, START_TIMEOUT, publish, volume};
use crate::engine::Engine;
use crate::ports::free_port;
use crate::proxy::Proxy;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use testcontainers::core::IntoContainerPort;
use testcontainers::{ContainerRequest, GenericImage, ImageExt};
use tokio::time::{Instant, sleep};

/// The network over which clients come.
const CLIENTS: &str = "bridge";
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// What the broker writes when it takes clients, in its first start only for certain the last of its preparations.
const STARTED: &str = "Kafka Server started";
const VERSION: &str = "Kafka version: ";

/// A broker in a container, alone or one of three.
pub struct Node {
    id: u32,
    container: Container,
    network: Option<String>,
    address: SocketAddr,
    aside: SocketAddr,
    proxy: Option<Proxy>,
}

impl Node {
    /// Starts the container; [`Node::started`] waits for the broker in it.
    pub(crate) async fn run(
        engine: &Engine,
        options: &Kafka,
        (id, name, names): (u32, String, &[String]),
        network: Option<&Network>,
    ) -> Result<Self> {
        let mut container = Container::create(engine, name).await?;
        let through = options.proxied.then(free_port).transpose()?;
        let [port, aside] = container
            .run(|name, [port, aside]| {
                let place = Place {
                    id,
                    names,
                    port,
                    advertised: through.unwrap_or(port),
                    aside,
                };
                request(engine, options, name, &place)
            })
            .await?;
        if let Some(network) = network {
            container.connect(network.name()).await?;
        }
        let on_loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let proxy = match through {
            Some(through) => Some(Proxy::start_on(through, on_loopback(port)).await?),
            None => None,
        };
        Ok(Self {
            id,
            container,
            network: network.map(|network| network.name().to_owned()),
            address: on_loopback(through.unwrap_or(port)),
            aside: on_loopback(aside),
            proxy,
        })
    }

    /// Waits until the broker has started for the first time, and returns its version.
    pub(crate) async fn started(&self) -> Result<String> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let running = self.container.is_running().await?;
            let log = self.container.log().await?;
            if log.contains(STARTED) {
                let version = log.lines().find_map(|line| line.split_once(VERSION));
                let version = version.context("the log does not say the version")?.1;
                let version = version.split_whitespace().next().unwrap_or_default();
                self.ready().await?;
                return Ok(version.to_owned());
            }
            if !running || Instant::now() > deadline {
                let how = if running { "is not ready" } else { "has ended" };
                bail!("starting {}: it {how}; its log:\n{log}", self.name());
            }
            sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Its number in the cluster, as in the broker's own metadata.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Name of the container and of the volume, for `docker logs` and the like.
    pub fn name(&self) -> &str {
        self.container.name()
    }

    /// Where clients come. It stays the same over stop and start.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where those who look from outside come: no login, no TLS, no proxy.
    pub fn aside(&self) -> SocketAddr {
        self.aside
    }

    /// The proxy in front of it, if it was set up with one.
    pub fn proxy(&self) -> Result<&Proxy> {
        self.proxy
            .as_ref()
            .context("it was not set up with a proxy: Kafka::proxied")
    }

    /// Freezes it: connections stay open, nothing is answered.
    pub async fn pause(&self) -> Result<()> {
        self.container.pause().await
    }

    /// Lets it go on where it was.
    pub async fn unpause(&self) -> Result<()> {
        self.container.unpause().await
    }

    /// Kills it at once, as a crash would. What it had stored stays.
    pub async fn kill(&self) -> Result<()> {
        self.container.kill().await
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(&self) -> Result<()> {
        self.container.stop().await
    }

    /// Starts it after a stop or a kill, and does not wait: a node may need the others for that.
    pub async fn start(&self) -> Result<()> {
        self.container.start().await
    }

    /// Waits until it takes clients, by its own metadata.
    pub async fn ready(&self) -> Result<()> {
        let (id, at) = (self.id, self.aside.to_string());
        let outside = Outside::at(&at)?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let why = match outside.brokers().await {
                Ok(brokers) if brokers.contains(&id) => return Ok(()),
                Ok(brokers) => format!("it knows of {brokers:?}"),
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() > deadline {
                let log = self.container.log().await?;
                bail!("node {id} is not ready after {START_TIMEOUT:?}: {why}; its log:\n{log}");
            }
            sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Starts it after a stop or a kill, and waits until it takes clients. Ports and data are as before.
    pub async fn start_again(&self) -> Result<()> {
        self.start().await?;
        self.ready().await
    }

    /// Stops it and starts it again.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// Takes it off the network over which clients come: nothing arrives and nothing is refused.
    pub async fn cut_off(&self) -> Result<()> {
        self.container.disconnect(CLIENTS).await
    }

    /// Puts it back on that network.
    pub async fn connect(&self) -> Result<()> {
        self.container.connect(CLIENTS).await
    }

    /// Takes it off the network of the cluster: clients reach it, the other nodes do not.
    pub async fn isolate(&self) -> Result<()> {
        self.container.disconnect(self.cluster()?).await
    }

    /// Puts it back among the other nodes.
    pub async fn rejoin(&self) -> Result<()> {
        self.container.connect(self.cluster()?).await
    }

    /// Whether its process runs, paused or not.
    pub async fn is_running(&self) -> Result<bool> {
        self.container.is_running().await
    }

    /// What it has written to its log so far.
    pub async fn log(&self) -> Result<String> {
        self.container.log().await
    }

    fn cluster(&self) -> Result<&str> {
        self.network
            .as_deref()
            .context("a node that is alone has no others to be cut off from")
    }
}

fn request(
    engine: &Engine,
    options: &Kafka,
    name: &str,
    place: &Place<'_>,
) -> Result<ContainerRequest<GenericImage>> {
    let image = engine.found("kafka.image")?;
    let (image, tag) = image
        .rsplit_once(':')
        .with_context(|| format!("no tag in {image}"))?;
    ensure!(place.id > 0, "nodes count from 1");
    let labels = engine.labels()?;
    // Outside and inside the same number: what the broker says of itself is true on both sides.
    let ports = [place.port, place.aside];
    let mut request = GenericImage::new(image, tag)
        .with_exposed_port(place.port.tcp())
        .with_exposed_port(place.aside.tcp())
        .with_startup_timeout(START_TIMEOUT)
        .with_container_name(name)
        .with_labels(labels.clone());
    for (name, value) in options.environment(place) {
        request = request.with_env_var(name, value);
    }
    for (path, text) in options.files() {
        request = request.with_copy_to(path, text.into_bytes());
    }
    let (disk, name) = (options.disk, name.to_owned());
    Ok(request.with_host_config_modifier(move |host| {
        publish(host, ports.map(|port| (port, port)));
        match disk {
            None => host.mounts = Some(vec![volume(&name, DATA, &labels)]),
            Some(bytes) => {
                let disk = format!("uid={USER},size={bytes}");
                host.tmpfs = Some(HashMap::from([(DATA.into(), disk)]));
            }
        }
    }))
}
