//! Pages for monitoring, over plain HTTP where `agent.toml` says: metrics, and whether a server leads or follows, by which
//! load balancers go. They change nothing and tell no secret, but addresses, names and sizes.
//!
//! ```text
//!   /metrics                            Prometheus text, see `page`
//!   /primary[/INSTANCE]                 200 if it takes writes, else 503, see `health`
//!   /replica[/INSTANCE][?max_lag=10MB]  200 if it follows and is no further behind, else 503
//!   /health                             200: the agent is there
//! ```

mod health;
mod lag;
mod page;
mod shared;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use baton_proto::InstanceName;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use self::health::{Claim, Health, Wanted};
use self::shared::Shared;
use crate::agent::Agent;
use crate::instance::Instance;
use crate::observe;

/// Most connections at a time: some balancers and one or two scrapers.
const CONNECTIONS_MAX: usize = 64;
/// Most of them that ask for the metrics, which take a look at everything: so that there is room for balancers, whatever
/// hangs.
const SCRAPERS_MAX: usize = 8;
/// How long a visitor may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of a request's head that are kept.
const REQUEST_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Pause after a connection could not be accepted: out of descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What Prometheus calls its text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// What the pages are made of.
struct Pages {
    agent: Arc<Agent>,
    metrics: Shared<Bytes>,
    scrapers: Semaphore,
}

/// Serves the pages as long as the agent runs.
pub async fn serve(agent: Arc<Agent>, listen: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    info!(listen = %listener.local_addr()?, "pages for monitoring");
    let pages = Pages { agent, metrics: Shared::new(), scrapers: Semaphore::new(SCRAPERS_MAX) };
    tokio::spawn(accept(Arc::new(pages), listener));
    Ok(())
}

async fn accept(pages: Arc<Pages>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("a visitor of the pages for monitoring was not let in: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let pages = Arc::clone(&pages);
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(&pages, request));
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(REQUEST_HEAD_BYTES_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = served.await {
                debug!("a visitor of the pages for monitoring: {error}");
            }
            drop(permit);
        });
    }
}

async fn answer(pages: &Pages, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let agent = &*pages.agent;
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here"));
    }
    let path = request.uri().path().trim_end_matches('/');
    let (page, instance) = match path.trim_start_matches('/').split_once('/') {
        Some((page, instance)) => (page, Some(instance)),
        None => (path.trim_start_matches('/'), None),
    };
    Ok(match (page, instance) {
        ("metrics", None) => match pages.scrapers.try_acquire() {
            Ok(_turn) => with_type(StatusCode::OK, pages.metrics.get(metrics(agent)).await, PROMETHEUS),
            Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "too many ask for this page at a time"),
        },
        ("health", None) => plain(StatusCode::OK, "the agent is there"),
        ("primary" | "replica", _) => match named(agent, instance) {
            Ok(instance) => match Wanted::of(page, request.uri().query()) {
                Ok(wanted) => judged(agent, instance, &wanted).await,
                Err(why) => plain(StatusCode::BAD_REQUEST, &why),
            },
            Err(why) => plain(StatusCode::NOT_FOUND, &why),
        },
        _ => plain(StatusCode::NOT_FOUND, "there is /metrics, /primary, /replica and /health"),
    })
}

async fn metrics(agent: &Agent) -> Bytes {
    page::metrics(&observe::observe(agent).await, agent.offers.sent_bytes()).into()
}

/// The instance that a path names; the only one of a host need not be named.
fn named<'a>(agent: &'a Agent, name: Option<&str>) -> Result<&'a Arc<Instance>, String> {
    let known = || agent.instances.keys().map(InstanceName::as_str).collect::<Vec<_>>().join(", ");
    match name {
        Some(name) => {
            let found = InstanceName::new(name).ok().and_then(|name| agent.instances.get(&name));
            found.ok_or_else(|| format!("no such instance; there is: {}", known()))
        }
        None => match agent.instances.values().next() {
            Some(only) if agent.instances.len() == 1 => Ok(only),
            _ => Err(format!("name one of: {}", known())),
        },
    }
}

async fn judged(agent: &Agent, instance: &Arc<Instance>, wanted: &Wanted) -> Response<Full<Bytes>> {
    let running = instance.running().await;
    let deposed = agent.notes.about(agent, instance).is_some_and(|held| held.deposition.stands());
    let uptime = running.as_ref().map_or(0, |running| running.uptime_seconds);
    let claim = match (deposed, agent.peers.may_know_better(uptime)) {
        (true, _) => Claim::Replaced,
        (false, true) => Claim::Unknown,
        (false, false) => Claim::Stands,
    };
    let lag = match (&running, wanted) {
        (Ok(running), Wanted::Replica { max_lag_bytes: Some(_) }) => Some(lag::bytes(instance, running).await),
        _ => None,
    };
    match health::judge(wanted, running.as_ref().map_err(ToString::to_string), claim, lag) {
        Health::Fit(why) => plain(StatusCode::OK, &why),
        Health::Unfit(why) => plain(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    with_type(status, format!("{text}\n").into(), PLAIN)
}

fn with_type(status: StatusCode, text: Bytes, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
