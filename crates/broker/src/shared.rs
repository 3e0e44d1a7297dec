//! What every task of the broker thread sees.
use crate::budget::ByteBudget;
use crate::connections::Connections;
use crate::context::RequestContext;
use crate::core::Core;
use crate::damage_log::DamageLog;
use crate::error_map::ReadFailure;
use crate::fetch_session::SessionCache;
use crate::metrics::BrokerMetrics;
use crate::peers::{self, Ask, Carried, Finding, Forwarding, Links};
use crate::reader_pool::ReaderPool;
use crate::settings::Settings;
use model::ErrorCode;
use node::{AdminReply, AdminRequest};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use storage::disk::RealDisk;
use storage::{Extracted, FileRange};
use tokio::sync::watch;

/// How long who made topics waits for their leaders; where too few nodes are up there will be none.
pub(crate) const ELECTIONS: Duration = Duration::from_secs(2);

/// Ranges up to this many bytes are read on the broker thread where the page cache has them: what another
/// thread reads is no longer in this core's cache when it is sent.
const READ_AT_ONCE: u32 = 2 << 20;

/// The broker's own state, shared by its tasks; never borrowed across an await.
pub(crate) struct Shared {
    /// Limits as they hold now; dynamic broker configs replace them.
    pub(crate) settings: RefCell<Rc<Settings>>,
    pub(crate) core: Rc<Core>,
    pub(crate) metrics: BrokerMetrics,
    pub(crate) connections: Connections,
    pub(crate) sessions: RefCell<SessionCache>,
    pub(crate) request_memory: Rc<ByteBudget>,
    pub(crate) response_memory: Rc<ByteBudget>,
    pub(crate) readers: ReaderPool,
    stopping: Cell<bool>,
    /// Tells the HTTP thread.
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) complaints: Complaints,
    damage: RefCell<DamageLog>,
    pub(crate) disk: Rc<RealDisk>,
    pub(crate) disk_full: Cell<bool>,
    pub(crate) started_wall_ms: i64,
    settings_version: Cell<u64>,
    /// The connections to other nodes.
    pub(crate) links: Rc<Links>,
    pub(crate) forwarding: Forwarding,
    /// The search for this node's cluster.
    pub(crate) finding: Finding,
    /// Whether there are other nodes.
    pub(crate) clustered: bool,
    /// When the metadata was loaded and this node registered.
    pub(crate) serving_since: Cell<Option<Instant>>,
    /// Feeds what chance decides.
    pub(crate) seed: u64,
}

/// For so long a node that begins to serve hears who leads what: others tell it when they hear of it, and partitions that
/// lost their leaders with it elect some.
pub(crate) const YOUNG: Duration = Duration::from_secs(2);

/// What [`Shared::new`] is made of.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) core: Rc<Core>,
    pub(crate) metrics: BrokerMetrics,
    pub(crate) readers: ReaderPool,
    pub(crate) disk: Rc<RealDisk>,
    pub(crate) links: Rc<Links>,
    pub(crate) seed: u64,
}

impl Shared {
    /// The state of a broker that begins.
    pub(crate) fn new(parts: Parts) -> Rc<Shared> {
        let settings = parts.settings;
        let clustered = settings.peers.is_some();
        Rc::new(Shared {
            connections: Connections::new(),
            sessions: RefCell::new(SessionCache::new(settings.fetch_sessions, parts.seed)),
            request_memory: ByteBudget::new(settings.queued_max_request_bytes),
            response_memory: ByteBudget::new(settings.response_memory_bytes),
            settings: RefCell::new(Rc::new(settings)),
            settings_version: Cell::new(u64::MAX),
            core: parts.core,
            metrics: parts.metrics,
            readers: parts.readers,
            stopping: Cell::new(false),
            stop: watch::channel(false).0,
            complaints: Complaints::default(),
            damage: RefCell::default(),
            disk: parts.disk,
            disk_full: Cell::new(false),
            started_wall_ms: crate::clock::wall_ms(),
            clustered,
            serving_since: Cell::new(None),
            links: parts.links,
            forwarding: Forwarding::default(),
            finding: Finding::default(),
            seed: parts.seed,
        })
    }

    /// Limits as they hold now.
    pub(crate) fn settings(&self) -> Rc<Settings> {
        self.settings.borrow().clone()
    }

    /// Takes over broker configs that changed since the last look.
    pub(crate) fn refresh_settings(&self) {
        let image = self.core.image();
        if self.settings_version.replace(image.version) == image.version {
            return;
        }
        let mut settings = Settings::clone(&self.settings());
        settings.take_over(image.broker_config());
        self.request_memory.set_limit(settings.queued_max_request_bytes);
        self.sessions.borrow_mut().set_slots(settings.fetch_sessions);
        *self.settings.borrow_mut() = Rc::new(settings);
    }

    /// Reads batches of a file: a small range that the page cache has at once, anything else on a reader
    /// thread, where it is queued before this returns.
    pub(crate) fn read_file(
        self: &Rc<Self>,
        range: FileRange,
    ) -> impl Future<Output = Result<Extracted, ReadFailure>> + use<> {
        let (begun, key) = (Instant::now(), range.key);
        let small = range.len <= READ_AT_ONCE;
        let cached = if small { self.disk.try_read_range(&range) } else { None };
        let job = match cached {
            Some(result) => Err((result, begun.elapsed())),
            None => {
                let disk = self.disk.reader();
                Ok(self.readers.run(move || {
                    let begun = Instant::now();
                    (storage::read_range(&*disk, &range), begun.elapsed())
                }))
            }
        };
        let shared = self.clone();
        async move {
            let (result, took) = match job {
                Ok(job) => job.await.ok_or(ReadFailure::Stopped)?,
                Err(done) => done,
            };
            shared.metrics.read_seconds.record(took.as_secs_f64());
            let at = match &result {
                Ok(_) => 0,
                Err(storage::ExtractError::Damaged(damage)) => {
                    if let Some(times) = shared.damage.borrow_mut().found(shared.core.uptime(), damage) {
                        tracing::error!(%damage, times, "damaged data was asked for");
                    }
                    let why = damage.to_string();
                    shared.core.with_node(|node, now| node.on_damage(now, key, why));
                    1
                }
                Err(error) => {
                    shared.complain(Complaint::File, || tracing::warn!(%error, "file could not be read"));
                    2
                }
            };
            shared.metrics.reads[at].increment(1);
            result.map_err(ReadFailure::Extract)
        }
    }

    /// Total and usable bytes of the data directory's file system; -1 where it does not tell.
    pub(crate) fn disk_room(&self) -> (i64, i64) {
        let number = |v: u64| v.try_into().unwrap_or(i64::MAX);
        self.disk.space().map_or((-1, -1), |(free, total)| (number(total), number(free)))
    }

    /// Bytes of the files that wait in the pool.
    pub(crate) fn pool_bytes(&self) -> u64 {
        self.disk.pool_files() * storage::FILE_BYTES
    }

    /// Whether a stop has begun.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Begins a stop; every connection's task looks around.
    pub(crate) fn begin_stop(&self) {
        self.stopping.set(true);
        self.stop.send_replace(true);
        self.connections.wake_all();
    }

    /// Resolves when a stop begins, in the task of a connection, which a stop wakes.
    pub(crate) fn stop_in_connection(&self) -> impl Future<Output = ()> {
        let already = self.stopping();
        // One that waits on during a stop must not spin.
        poll_fn(move |_| if self.stopping() && !already { Poll::Ready(()) } else { Poll::Pending })
    }

    /// Changes the metadata; REQUEST_TIMED_OUT when it takes longer than `patience`, though it may still
    /// happen.
    pub(crate) async fn admin(
        &self,
        ctx: &RequestContext,
        request: AdminRequest,
        patience: Duration,
    ) -> Result<AdminReply, ErrorCode> {
        match ctx.refused {
            Some(code) => Err(code),
            None => self.core.admin(request, patience).await,
        }
    }

    /// Creates topics with the broker's defaults and waits until they are there or refused.
    pub(crate) async fn internal_topic(self: &Rc<Self>, ctx: &RequestContext, name: &str) {
        if self.core.topic_by_name(name).is_none() {
            self.auto_create(ctx, vec![name.to_owned()]).await;
        }
    }

    /// Creates topics with the brokers' defaults.
    pub(crate) async fn auto_create(self: &Rc<Self>, ctx: &RequestContext, names: Vec<String>) {
        let patience = Duration::from_millis(self.core.broker_config().request_timeout_ms.max(0) as u64);
        let from = (&ctx.connection.principal, &*ctx.connection.listener, &*ctx.client_id);
        let ask = Ask::Create(names.clone());
        let done = match peers::carry_out(self, from, &ask, patience).await {
            Carried::Here => match ask {
                Ask::Create(names) => {
                    self.core.admin(AdminRequest::AutoCreate(names), patience).await.map(drop)
                }
                Ask::Frame(_) => Ok(()),
            },
            Carried::Elsewhere(_) => Ok(()),
            Carried::Refused(code) => Err(code),
        };
        match done {
            Ok(()) => self.elected(&names, ELECTIONS).await,
            Err(code) => tracing::warn!(%code, "topics were not created on demand"),
        }
    }

    /// Waits, as long as `patience` at most, until this node serves. Whether it does.
    pub(crate) async fn served_within(&self, patience: Duration) -> bool {
        let serves = async {
            while self.serving_since.get().is_none() {
                self.core.turned().await;
            }
        };
        tokio::time::timeout(patience, serves).await.is_ok()
    }

    /// For how long this node, which serves only since a moment, has to hear who leads what before it tells a client that
    /// nobody does: librdkafka takes that for the last word and fails what it is asked next.
    pub(crate) fn young_for(&self) -> Option<Duration> {
        let since = self.serving_since.get().filter(|_| self.clustered)?;
        YOUNG.checked_sub(since.elapsed())
    }

    /// Waits, as long as `patience` at most, until every partition of these topics has a leader. Kafka's have one
    /// from the start, and clients rely on it: one that is told of none pauses, some for seconds, before it
    /// asks again. Topics that are not there are passed over.
    pub(crate) async fn elected(&self, topics: &[String], patience: Duration) {
        if !self.clustered {
            return;
        }
        let all = async {
            for name in topics {
                let mut partition = 0;
                while let Some(topic) = self.core.topic_by_name(name)
                    && partition < topic.partitions.len() as i32
                {
                    match self.core.leader(&topic, partition) {
                        Some(_) => partition += 1,
                        None => self.core.turned().await,
                    }
                }
            }
        };
        let _ = tokio::time::timeout(patience, all).await;
    }

    /// Counts an error of this request's API and gives its number for the answer.
    pub(crate) fn code(&self, ctx: &RequestContext, code: ErrorCode) -> i16 {
        self.metrics.error(ctx.api_key, code);
        code.code()
    }

    /// Runs `log` at most once a second for each kind: hostile peers cannot fill the log, nor hide what else
    /// there is to say.
    pub(crate) fn complain(&self, kind: Complaint, log: impl FnOnce()) {
        let Some(unsaid) = self.complaints.may(kind, self.core.uptime()) else { return };
        log();
        if unsaid > 0 {
            tracing::warn!("{unsaid} more like the one before were not logged");
        }
    }
}

/// What is complained about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// A connection could not be accepted.
    Accept,
    /// A limit of connections is reached.
    Limit,
    /// Bytes that are no frame.
    Frame,
    /// A frame that is no request.
    Request,
    /// A file that could not be read.
    File,
    /// A message between replicas that contradicts what is here.
    Replica,
}

/// The kinds of [`Complaint`], whose last one this names.
const KINDS: usize = Complaint::Replica as usize + 1;

/// Lets one complaint of each kind through in a second.
#[derive(Default)]
pub(crate) struct Complaints {
    /// By kind: the second of the last one, and how many were not let through since.
    kinds: [Cell<(Option<u64>, u64)>; KINDS],
}

impl Complaints {
    /// How many of the kind were not let through since the last one that was, if this one is.
    fn may(&self, kind: Complaint, uptime: Duration) -> Option<u64> {
        let cell = &self.kinds[kind as usize];
        let (last, unsaid) = cell.get();
        if last == Some(uptime.as_secs()) {
            cell.set((last, unsaid + 1));
            return None;
        }
        cell.set((Some(uptime.as_secs()), 0));
        Some(unsaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_of_complaint_hides_no_other_and_tells_what_it_kept_back() {
        let complaints = Complaints::default();
        let at = Duration::from_millis;
        assert_eq!(complaints.may(Complaint::Frame, at(100)), Some(0));
        assert_eq!(complaints.may(Complaint::Frame, at(200)), None);
        assert_eq!(complaints.may(Complaint::Frame, at(900)), None);
        assert_eq!(complaints.may(Complaint::Limit, at(900)), Some(0));
        assert_eq!(complaints.may(Complaint::Frame, at(1100)), Some(2));
        assert_eq!(complaints.may(Complaint::Frame, at(2100)), Some(0));
    }
}
