//! A real NATS server for a test.

use crate::container::{Container, START_TIMEOUT, publish, unique, volume};
use crate::engine::Engine;
use crate::greeting::{self, Greeting};
use crate::origin::Origin;
use crate::proxy::Proxy;
use crate::run;
use crate::server::{CONFIG, DATA, Nats, PORT, Store};
use anyhow::{Context, Result, anyhow};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::{ContainerRequest, GenericImage, ImageExt};

/// Names a server that is already there: no container is started, and tests that need their own are skipped.
const GIVEN: &str = "CLEARWAY_TEST_NATS";
const GIVEN_TIMEOUT: Duration = Duration::from_secs(5);

/// A running NATS server. Dropping it removes everything that was started for it.
pub struct Broker {
    url: String,
    address: SocketAddr,
    origin: Origin,
    own: Option<Container>,
}

impl Broker {
    /// A server for a test that only talks to it: the one that is already there, or a container of its own.
    ///
    /// Others may be using the same server, so names should come from [`Broker::fresh_name`].
    pub async fn any() -> Result<Self> {
        match given() {
            Some(url) => Self::given(url).await,
            None => Self::start(&Nats::default()).await,
        }
    }

    /// A server of the test's own, set up like this, that it may pause, kill and stop.
    ///
    /// `None` when the run was told to use a server that is already there: the test is then noted as skipped and
    /// has nothing more to do.
    pub async fn nats(options: Nats) -> Result<Option<Self>> {
        if given().is_some() {
            run::skip("it needs a server of its own");
            return Ok(None);
        }
        Self::start(&options).await.map(Some)
    }

    /// What a client is given to reach the server. Credentials and certificates are not in it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same through a proxy in front of this server.
    pub fn url_through(&self, proxy: &Proxy) -> String {
        // A server that was given may have credentials in its URL.
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("nats", &self.url));
        let credentials = rest
            .rsplit_once('@')
            .map(|(user, _)| format!("{user}@"))
            .unwrap_or_default();
        format!("{scheme}://{credentials}{}", proxy.address())
    }

    /// Where the server answers. It stays the same over stop and start.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What this server is, for reports and the headers of histories.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Name of the container and of the volume, for `docker logs` and the like. None on a server that was given.
    pub fn name(&self) -> Option<&str> {
        self.own.as_ref().map(Container::name)
    }

    /// A proxy in front of this server, to spoil connections with. The server need not be ours for that.
    pub async fn proxy(&self) -> Result<Proxy> {
        Ok(Proxy::start(self.address).await?)
    }

    /// A name that no other test, process or run uses.
    pub fn fresh_name(&self, prefix: &str) -> String {
        unique(prefix)
    }

    /// Freezes the server: connections stay open, nothing is answered.
    pub async fn pause(&self) -> Result<()> {
        self.own()?.pause().await
    }

    /// Lets a paused server go on where it was.
    pub async fn unpause(&self) -> Result<()> {
        self.own()?.unpause().await
    }

    /// Kills the server at once, as a crash would. What it had stored stays.
    pub async fn kill(&self) -> Result<()> {
        self.own()?.kill().await
    }

    /// Asks the server to stop and waits until it has.
    pub async fn stop(&self) -> Result<()> {
        self.own()?.stop().await
    }

    /// Starts a server that was stopped or killed, and waits until it takes clients. Port and data are as before.
    pub async fn start_again(&self) -> Result<()> {
        self.own()?.start().await?;
        match greeting::ready(self.address, START_TIMEOUT).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.context(self.log().await?)),
        }
    }

    /// Stops the server and starts it again.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// What the server has written to its log so far.
    pub async fn log(&self) -> Result<String> {
        self.own()?.log().await
    }

    async fn given(url: String) -> Result<Self> {
        let server: async_nats::ServerAddr =
            url.parse().with_context(|| format!("{GIVEN}={url}"))?;
        let host = (server.host(), server.port());
        let address = tokio::net::lookup_host(host).await?.next();
        let address =
            address.with_context(|| format!("{GIVEN}={url}: no address for {}", host.0))?;
        let greeting = greeting::ready(address, GIVEN_TIMEOUT)
            .await
            .context(GIVEN)?;
        let origin = origin(greeting, None, format!("already there ({GIVEN})"));
        run::announce(&origin);
        Ok(Self {
            url,
            address,
            origin,
            own: None,
        })
    }

    async fn start(options: &Nats) -> Result<Self> {
        let engine = Engine::nats().await?;
        let mut own = Container::create(engine, unique("clearway-test")).await?;
        let [port] = own
            .run(|name, [port]| request(engine, options, name, port))
            .await?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let greeting = greeting::ready(address, START_TIMEOUT).await?;
        let image = engine.found("nats.image")?.to_owned();
        let way = format!("{}; {}", engine.found("nats.way")?, engine.found("engine")?);
        let origin = origin(greeting, Some(image), way);
        run::announce(&origin);
        Ok(Self {
            url: format!("nats://{address}"),
            address,
            origin,
            own: Some(own),
        })
    }

    fn own(&self) -> Result<&Container> {
        self.own
            .as_ref()
            .ok_or_else(|| anyhow!("the server at {} is not ours to break", self.url))
    }
}

impl AsRef<Origin> for Broker {
    fn as_ref(&self) -> &Origin {
        &self.origin
    }
}

fn request(
    engine: &Engine,
    options: &Nats,
    name: &str,
    port: u16,
) -> Result<ContainerRequest<GenericImage>> {
    let image = engine.found("nats.image")?;
    let (image, tag) = image
        .rsplit_once(':')
        .with_context(|| format!("no tag in {image}"))?;
    let labels = engine.labels()?;
    let mut request = GenericImage::new(image, tag)
        .with_exposed_port(PORT.tcp())
        .with_wait_for(WaitFor::message_on_stderr("Server is ready"))
        .with_startup_timeout(START_TIMEOUT)
        .with_container_name(name)
        .with_labels(labels.clone())
        .with_cmd(["--config", CONFIG]);
    for (path, text) in options.files(name) {
        request = request.with_copy_to(path, text.into_bytes());
    }
    let (store, name) = (options.store.clone(), name.to_owned());
    Ok(request.with_host_config_modifier(move |host| {
        publish(host, [(PORT, port)]);
        match store {
            Store::Volume => host.mounts = Some(vec![volume(&name, DATA, &labels)]),
            Store::Small { bytes, .. } => {
                host.tmpfs = Some(HashMap::from([(DATA.into(), format!("size={bytes}"))]));
            }
        }
    }))
}

fn given() -> Option<String> {
    std::env::var(GIVEN).ok().filter(|url| !url.is_empty())
}

fn origin(greeting: Greeting, image: Option<String>, way: String) -> Origin {
    Origin {
        backend: "nats",
        server: format!("nats-server {}", greeting.version),
        image,
        way,
    }
}
