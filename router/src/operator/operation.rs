//! Starts and ends what an operator has of a router, with the router.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use ringpost_shard::service::ActiveQueue;
use ringpost_shard::{InheritedListeners, Operator};

use super::desk::{self, Desk};
use super::keeper::{Keeper, METRICS_FILE};
use super::reload::Reload;
use super::statistics::file::Saved;
use super::{control, local, metrics};
use crate::exit::{Fatal, Reason};
use crate::ini::Ini;
use crate::paths::Paths;
use crate::settings::{OperatorSettings, Settings};
use crate::signals;

/// What is there before the router: ports, and statistics of an earlier run.
#[derive(Debug)]
pub struct Operation {
    paths: Paths,
    ini: Ini,
    settings: OperatorSettings,
    control: Option<TcpListener>,
    metrics: Option<TcpListener>,
    saved: Option<Saved>,
}

impl Operation {
    /// Ports that were inherited are not opened anew.
    pub fn prepare(
        paths: &Paths,
        settings: &Settings,
        ini: Ini,
        inherited: &mut InheritedListeners,
    ) -> Result<Self, Fatal> {
        let settings = settings.operator.clone();
        let mut listen =
            |port: Option<u16>, key| port.map(|port| local::listen(port, key, inherited)).transpose();
        Ok(Self {
            control: listen(settings.control.port, "[TRANSPORT] control_port")?,
            metrics: listen(settings.metrics_port, "[RINGPOST] metrics_port")?,
            saved: settings.log_stats.then(|| desk::load(&paths.data_dir)).flatten(),
            paths: paths.clone(),
            ini,
            settings,
        })
    }

    /// What the shards begin with.
    pub fn active_queues(&self) -> Option<Vec<ActiveQueue>> {
        let saved = self.saved.as_ref().map(|saved| saved.active.clone());
        self.settings.log_stats.then(|| saved.unwrap_or_default())
    }

    /// For the router that has started and listens on these addresses.
    pub fn start(
        self,
        operator: &Operator,
        addresses: &[SocketAddr],
        signals: &signals::Watch,
    ) -> Result<Operated, Fatal> {
        let ports = addresses.iter().map(SocketAddr::port).collect();
        let data_dir = self.paths.data_dir.clone();
        let desk = Arc::new(Desk::new(operator.clone(), ports, self.settings.clone(), &data_dir, self.saved));
        let listeners = self.control.iter().chain(&self.metrics).map(TcpListener::try_clone);
        let listeners = listeners.collect::<io::Result<_>>().map_err(|error| {
            Fatal::new(Reason::Other, format!("a descriptor of a socket cannot be copied: {error}"))
        })?;
        if let Some(listener) = self.control {
            control::serve(listener, Arc::clone(&desk))?;
        }
        if let Some(listener) = self.metrics {
            metrics::http::serve(listener, Arc::clone(&desk))?;
        }
        let keeper = Keeper::start(Arc::clone(&desk), &data_dir)?;
        let reload = Reload::new(self.paths, Arc::clone(&desk), self.ini);
        signals.reloads_with(move || reload.reload());
        Ok(Operated { desk, keeper, data_dir, listeners })
    }
}

/// What runs beside the router.
#[derive(Debug)]
pub struct Operated {
    desk: Arc<Desk>,
    keeper: Keeper,
    data_dir: PathBuf,
    /// Other descriptors of the sockets.
    listeners: Vec<TcpListener>,
}

impl Operated {
    /// What is said at the start.
    pub fn lines(&self) -> Vec<String> {
        let settings = self.desk.settings();
        let mut lines = Vec::new();
        if let Some(port) = settings.control.port {
            lines.push(format!("Control port on 127.0.0.1:{port}"));
        }
        if let Some(port) = settings.metrics_port {
            lines.push(format!("Metrics on http://127.0.0.1:{port}/metrics"));
        }
        if let Some(secs) = settings.prometheus_interval_secs {
            let file = self.data_dir.join(METRICS_FILE);
            lines.push(format!("Metrics every {secs} seconds in {}", file.display()));
        }
        if settings.log_stats {
            let file = self.data_dir.join(super::keeper::DAILY_FILE);
            lines.push(format!("Statistics of each day in {}", file.display()));
        }
        lines
    }

    /// After the router has stopped. Gives the listening sockets, which threads use until the process ends.
    pub fn finish(self, is_orderly: bool) -> Vec<TcpListener> {
        drop(self.keeper);
        if is_orderly {
            let active = self.desk.operator.last_active_queues();
            if let Err(error) = self.desk.save(&active) {
                tracing::warn!("{} could not be written: {error}", desk::STATISTICS_FILE);
            }
        }
        self.listeners
    }
}
