//! A real NATS server for a test.

use crate::engine::Engine;
use crate::greeting::{self, Greeting};
use crate::origin::Origin;
use crate::ports::free_port;
use crate::proxy::Proxy;
use crate::run;
use crate::server::{CONFIG, DATA, Nats, PORT, Store};
use anyhow::{Context, Result, anyhow, bail};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::{Mount, MountType, MountVolumeOptions, PortBinding};
use testcontainers::bollard::query_parameters as query;
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};
use tokio::time::{Instant, sleep};

/// Names a server that is already there: no container is started, and tests that need their own are skipped.
const GIVEN: &str = "CLEARWAY_TEST_NATS";
const START_TIMEOUT: Duration = Duration::from_secs(30);
const GIVEN_TIMEOUT: Duration = Duration::from_secs(5);
/// A stop that takes longer becomes a kill.
const STOP_SECONDS: i32 = 10;
/// Somebody else may take a free port before the engine does.
const PORT_TRIES: usize = 5;

/// A running NATS server. Dropping it removes everything that was started for it.
pub struct Broker {
    url: String,
    address: SocketAddr,
    origin: Origin,
    own: Option<Own>,
}

/// The container of a server that belongs to one test.
struct Own {
    container: Option<ContainerAsync<GenericImage>>,
    name: String,
    docker: Docker,
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
        self.own.as_ref().map(|own| own.name.as_str())
    }

    /// A proxy in front of this server, to spoil connections with. The server need not be ours for that.
    pub async fn proxy(&self) -> Result<Proxy> {
        Ok(Proxy::start(self.address).await?)
    }

    /// A name that no other test, process or run uses.
    pub fn fresh_name(&self, prefix: &str) -> String {
        format!("{prefix}-{}", unique())
    }

    /// Freezes the server: connections stay open, nothing is answered.
    pub async fn pause(&self) -> Result<()> {
        Ok(self.container()?.pause().await?)
    }

    /// Lets a paused server go on where it was.
    pub async fn unpause(&self) -> Result<()> {
        Ok(self.container()?.unpause().await?)
    }

    /// Kills the server at once, as a crash would. What it had stored stays.
    pub async fn kill(&self) -> Result<()> {
        let container = self.container()?;
        let options = query::KillContainerOptions {
            signal: "KILL".into(),
        };
        self.own()?
            .docker
            .kill_container(container.id(), Some(options))
            .await?;
        let deadline = Instant::now() + START_TIMEOUT;
        while container.is_running().await? {
            if Instant::now() > deadline {
                bail!(
                    "{} still runs {START_TIMEOUT:?} after a kill",
                    self.own()?.name
                );
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Asks the server to stop and waits until it has.
    pub async fn stop(&self) -> Result<()> {
        Ok(self
            .container()?
            .stop_with_timeout(Some(STOP_SECONDS))
            .await?)
    }

    /// Starts a server that was stopped or killed, and waits until it takes clients. Port and data are as before.
    pub async fn start_again(&self) -> Result<()> {
        self.container()?.start().await?;
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
        let log = self.container()?.stderr_to_vec().await?;
        Ok(String::from_utf8_lossy(&log).into_owned())
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
        let engine = Engine::ready().await?;
        let own = Own::create(engine).await?;
        let (own, port) = own.run(engine, options).await?;
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

    fn own(&self) -> Result<&Own> {
        self.own
            .as_ref()
            .ok_or_else(|| anyhow!("the server at {} is not ours to break", self.url))
    }

    fn container(&self) -> Result<&ContainerAsync<GenericImage>> {
        self.own()?
            .container
            .as_ref()
            .ok_or_else(|| anyhow!("the server was never started"))
    }
}

impl Own {
    /// From here on everything under this name is removed by the drop, also after half a start.
    async fn create(engine: &Engine) -> Result<Self> {
        let docker = docker_client_instance()
            .await
            .context("no engine answers at DOCKER_HOST")?;
        docker.ping().await.with_context(|| {
            format!(
                "the docker command reaches {}, this process does not: set DOCKER_HOST",
                engine.found("engine").unwrap_or("an engine")
            )
        })?;
        Ok(Self {
            container: None,
            name: format!("clearway-test-{}", unique()),
            docker,
        })
    }

    async fn run(mut self, engine: &Engine, options: &Nats) -> Result<(Self, u16)> {
        let mut tries = 0;
        loop {
            let port = free_port()?;
            tries += 1;
            match self.request(engine, options, port)?.start().await {
                Ok(container) => {
                    self.container = Some(container);
                    return Ok((self, port));
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    let taken = ["port is already allocated", "address already in use"];
                    if tries == PORT_TRIES || !taken.iter().any(|text| why.contains(text)) {
                        return Err(anyhow!(error).context(format!("starting {}", self.name)));
                    }
                    remove_container(&self.docker, &self.name).await;
                }
            }
        }
    }

    fn request(
        &self,
        engine: &Engine,
        options: &Nats,
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
            .with_container_name(&self.name)
            .with_labels(labels.clone())
            .with_cmd(["--config", CONFIG]);
        for (path, text) in options.files(&self.name) {
            request = request.with_copy_to(path, text.into_bytes());
        }
        let (store, volume) = (options.store.clone(), self.name.clone());
        Ok(request.with_host_config_modifier(move |host| {
            // Only this one, only on the loopback: the engine's own default is every address of the machine.
            let binding = PortBinding {
                host_ip: Some("127.0.0.1".into()),
                host_port: Some(port.to_string()),
            };
            host.publish_all_ports = Some(false);
            host.port_bindings = Some(HashMap::from([(
                format!("{PORT}/tcp"),
                Some(vec![binding]),
            )]));
            match store {
                Store::Volume => host.mounts = Some(vec![mount(&volume, &labels)]),
                Store::Small { bytes, .. } => {
                    host.tmpfs = Some(HashMap::from([(DATA.into(), format!("size={bytes}"))]));
                }
            }
        }))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let (container, name, docker) = (
            self.container.take(),
            self.name.clone(),
            self.docker.clone(),
        );
        // A thread and a runtime of its own: the one this may be running on cannot be waited on from here.
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .expect("a small runtime for the removal")
                .block_on(async {
                    if let Some(container) = container {
                        let _ = container.rm().await; // so that the watchdog forgets it
                    }
                    remove_container(&docker, &name).await;
                    let _ = docker
                        .remove_volume(&name, None::<query::RemoveVolumeOptions>)
                        .await;
                });
        });
        let _ = removal.join();
    }
}

/// Gone already is as good.
async fn remove_container(docker: &Docker, name: &str) {
    let options = query::RemoveContainerOptions {
        force: true,
        v: true,
        ..Default::default()
    };
    let _ = docker.remove_container(name, Some(options)).await;
}

fn mount(volume: &str, labels: &HashMap<String, String>) -> Mount {
    let options = MountVolumeOptions {
        labels: Some(labels.clone()),
        ..Default::default()
    };
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.into()),
        target: Some(DATA.into()),
        volume_options: Some(options),
        ..Default::default()
    }
}

fn given() -> Option<String> {
    std::env::var(GIVEN).ok().filter(|url| !url.is_empty())
}

fn origin(greeting: Greeting, image: Option<String>, way: String) -> Origin {
    Origin {
        server: format!("nats-server {}", greeting.version),
        image,
        way,
    }
}

fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!(
        "{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}
