//! A container that belongs to one test, with its volume. Dropping it removes both.

use crate::engine::Engine;
use crate::patience::until;
use crate::ports::free_port;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::{
    HostConfig, Mount, MountType, MountVolumeOptions, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, PortBinding,
};
use testcontainers::bollard::query_parameters as query;
use testcontainers::core::client::docker_client_instance;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage};
use tokio::time::{Instant, sleep};

/// How long a broker may take to start or to die.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(30);
/// A stop that takes longer becomes a kill.
const STOP_SECONDS: i32 = 10;
/// Somebody else may take a free port before the engine does.
const PORT_TRIES: usize = 5;

/// See the module.
pub(crate) struct Container {
    running: Option<ContainerAsync<GenericImage>>,
    name: String,
    docker: Docker,
}

impl Container {
    /// From here on everything under this name is removed by the drop, also after half a start.
    pub(crate) async fn create(engine: &Engine, name: String) -> Result<Self> {
        let docker = docker(engine).await?;
        Ok(Self {
            running: None,
            name,
            docker,
        })
    }

    /// Starts what `request` asks for on so many ports of this machine, which it gets and which are free.
    pub(crate) async fn run<const PORTS: usize>(
        &mut self,
        request: impl Fn(&str, [u16; PORTS]) -> Result<ContainerRequest<GenericImage>>,
    ) -> Result<[u16; PORTS]> {
        let mut tries = 0;
        loop {
            let mut ports = [0; PORTS];
            for port in &mut ports {
                *port = free_port()?;
            }
            tries += 1;
            match request(&self.name, ports)?.start().await {
                Ok(container) => {
                    self.running = Some(container);
                    return Ok(ports);
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

    /// Of the container and of its volume.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Freezes it. A busy machine refuses that now and then ("unable to freeze"), and lets it run on.
    pub(crate) async fn pause(&self) -> Result<()> {
        let container = self.running()?;
        until("it is frozen", async || {
            container.pause().await?;
            Ok(true)
        })
        .await
    }

    pub(crate) async fn unpause(&self) -> Result<()> {
        Ok(self.running()?.unpause().await?)
    }

    /// Kills it at once and waits until it is dead.
    pub(crate) async fn kill(&self) -> Result<()> {
        let container = self.running()?;
        let options = query::KillContainerOptions {
            signal: "KILL".into(),
        };
        self.docker
            .kill_container(container.id(), Some(options))
            .await?;
        let deadline = Instant::now() + START_TIMEOUT;
        while container.is_running().await? {
            if Instant::now() > deadline {
                bail!("{} still runs {START_TIMEOUT:?} after a kill", self.name);
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(&self) -> Result<()> {
        let running = self.running()?;
        Ok(running.stop_with_timeout(Some(STOP_SECONDS)).await?)
    }

    /// Starts it again. Whether what is in it is ready is another question.
    pub(crate) async fn start(&self) -> Result<()> {
        Ok(self.running()?.start().await?)
    }

    pub(crate) async fn is_running(&self) -> Result<bool> {
        Ok(self.running()?.is_running().await?)
    }

    /// What it has written so far: standard output, then standard error.
    pub(crate) async fn log(&self) -> Result<String> {
        let container = self.running()?;
        let mut log = container.stdout_to_vec().await?;
        log.extend(container.stderr_to_vec().await?);
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    pub(crate) async fn connect(&self, network: &str) -> Result<()> {
        let request = NetworkConnectRequest {
            container: self.name.clone(),
            ..Default::default()
        };
        Ok(self.docker.connect_network(network, request).await?)
    }

    pub(crate) async fn disconnect(&self, network: &str) -> Result<()> {
        let request = NetworkDisconnectRequest {
            container: self.name.clone(),
            force: Some(true),
        };
        Ok(self.docker.disconnect_network(network, request).await?)
    }

    fn running(&self) -> Result<&ContainerAsync<GenericImage>> {
        self.running
            .as_ref()
            .ok_or_else(|| anyhow!("{} was never started", self.name))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let (running, name, docker) = (self.running.take(), self.name.clone(), self.docker.clone());
        aside(async move {
            if let Some(container) = running {
                let _ = container.rm().await; // so that the watchdog forgets it
            }
            remove_container(&docker, &name).await;
            let _ = docker
                .remove_volume(&name, None::<query::RemoveVolumeOptions>)
                .await;
        });
    }
}

/// A network of one test. Dropping it removes it: after the containers in it.
pub(crate) struct Network {
    name: String,
    docker: Docker,
}

impl Network {
    pub(crate) async fn create(engine: &Engine, name: String) -> Result<Self> {
        let docker = docker(engine).await?;
        let request = NetworkCreateRequest {
            name: name.clone(),
            labels: Some(engine.labels()?),
            ..Default::default()
        };
        docker.create_network(request).await?;
        Ok(Self { name, docker })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let (name, docker) = (self.name.clone(), self.docker.clone());
        aside(async move {
            let _ = docker.remove_network(&name).await;
        });
    }
}

/// Publishes these ports and no other, on the loopback and nowhere else: the engine's own default is every address
/// of the machine.
pub(crate) fn publish(host: &mut HostConfig, ports: impl IntoIterator<Item = (u16, u16)>) {
    let binding = |port: u16| PortBinding {
        host_ip: Some("127.0.0.1".into()),
        host_port: Some(port.to_string()),
    };
    let bindings = ports
        .into_iter()
        .map(|(inside, outside)| (format!("{inside}/tcp"), Some(vec![binding(outside)])));
    host.publish_all_ports = Some(false);
    host.port_bindings = Some(bindings.collect());
}

/// A volume at `target`, which is there over stop and kill.
pub(crate) fn volume(name: &str, target: &str, labels: &HashMap<String, String>) -> Mount {
    let options = MountVolumeOptions {
        labels: Some(labels.clone()),
        ..Default::default()
    };
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.into()),
        target: Some(target.into()),
        volume_options: Some(options),
        ..Default::default()
    }
}

/// A name that nothing else on this machine has.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!(
        "{prefix}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

async fn docker(engine: &Engine) -> Result<Docker> {
    let docker = docker_client_instance()
        .await
        .context("no engine answers at DOCKER_HOST")?;
    docker.ping().await.with_context(|| {
        format!(
            "the docker command reaches {}, this process does not: set DOCKER_HOST",
            engine.found("engine").unwrap_or("an engine")
        )
    })?;
    Ok(docker)
}

/// On a thread and a runtime of its own: the one this may be running on cannot be waited on from here.
fn aside(removal: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime
            .expect("a small runtime for the removal")
            .block_on(removal);
    });
    let _ = thread.join();
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
