//! The agent's door for the operator: signed requests alone, but for `/healthz`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State as Extract,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use super::{
    course::Goal,
    state::{Command, Orders, State},
};
use crate::{
    api::OnFenceTimeout,
    worker::signed::{self, Verifier},
};

/// Longest that a request for the next change of state is held open.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// What requests are answered from.
pub(super) struct Desk {
    pub verifier: Verifier,
    pub state: watch::Receiver<State>,
    pub orders: watch::Sender<Orders>,
    /// What the task says happens when going back can't fence in time.
    pub on_fence_timeout: OnFenceTimeout,
}

/// Answers requests until the stop.
pub(super) async fn serve(listener: TcpListener, desk: Desk, stop: CancellationToken) {
    let router = Router::new().fallback(answer).with_state(Arc::new(desk));
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = serving.await {
        tracing::error!(%error, "the agent can't be asked any more");
    }
}

async fn answer(
    Extract(desk): Extract<Arc<Desk>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if method == Method::GET && path == "/healthz" {
        return "ok".into_response();
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Err(error) = desk.verifier.check(method.as_str(), path, header, &body, signed::now()) {
        return refusal(StatusCode::UNAUTHORIZED, &error.to_string());
    }
    match (method.as_str(), uri.path()) {
        ("GET", "/state") => {
            let known = uri.query().and_then(|query| query.strip_prefix("after=")).and_then(|after| after.parse().ok());
            Json(next_state(&desk, known).await).into_response()
        }
        ("POST", path) => match serde_json::from_slice::<Command>(&body) {
            Ok(command) => obey(&desk, path, &command),
            Err(error) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        _ => refusal(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}

/// The state, at once or as soon as it is newer than `known`.
async fn next_state(desk: &Desk, known: Option<u64>) -> State {
    let mut state = desk.state.clone();
    if let Some(known) = known {
        let newer = state.wait_for(|state| state.version > known);
        // Too long, or the agent ends: what is known is the answer.
        let _ = tokio::time::timeout(LONGEST_WAIT, newer).await;
    }
    let newest: State = state.borrow().clone();
    newest
}

fn obey(desk: &Desk, path: &str, command: &Command) -> Response {
    if command.uid != desk.verifier.uid {
        return refusal(StatusCode::CONFLICT, "the request is for another migration");
    }
    let mut stale = None;
    let mut unknown = false;
    desk.orders.send_if_modified(|orders| {
        if command.epoch < orders.epoch {
            stale = Some(orders.epoch);
            return false;
        }
        let Some(next) = ordered(path, command, desk.on_fence_timeout, orders) else {
            unknown = true;
            return false;
        };
        let changed = *orders != next;
        if changed && command.epoch == orders.epoch && next.goal != orders.goal {
            // Two leaders took the same number: whoever came first is obeyed.
            stale = Some(orders.epoch);
            return false;
        }
        *orders = next;
        changed
    });
    if let Some(epoch) = stale {
        let why = format!("the request is of epoch {}, and another of {epoch} was heard before", command.epoch);
        return refusal(StatusCode::CONFLICT, &why);
    }
    if unknown {
        return refusal(StatusCode::BAD_REQUEST, "no such command, or it lacks the `term` to move to");
    }
    let told = desk.state.borrow().clone();
    (StatusCode::ACCEPTED, Json(told)).into_response()
}

/// What is wanted after a command; nothing if it means nothing. The same command again changes nothing.
fn ordered(path: &str, command: &Command, default: OnFenceTimeout, orders: &Orders) -> Option<Orders> {
    let mut next = Orders { epoch: command.epoch, ..*orders };
    match path {
        "/cut-over" | "/back" => {
            let term = command.term.filter(|term| *term > 0)?;
            let goal = if command.only_try { Goal::Try(term) } else { Goal::Move(term) };
            if orders.goal != goal {
                next.goal = goal;
                next.since = Instant::now();
            }
            let forced = path == "/back"
                && command.on_fence_timeout.unwrap_or(default) == OnFenceTimeout::PreferTraffic
                && !command.only_try;
            next.force_after = command.deadline.filter(|_| forced).map(|deadline| deadline.0);
        }
        "/flipped" => next.flipped = orders.flipped.wrapping_add(1),
        "/lift" => {
            next.goal = Goal::Stay;
            next.force_after = None;
        }
        "/leave" => next.leave = true,
        _ => return None,
    }
    Some(next)
}

fn refusal(status: StatusCode, why: &str) -> Response {
    (status, Json(serde_json::json!({ "error": why }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Span;

    fn command(term: u32) -> Command {
        Command {
            uid: "u-1".into(),
            epoch: 3,
            term: Some(term),
            only_try: false,
            deadline: Some(Span::secs(2)),
            on_fence_timeout: None,
        }
    }

    fn orders() -> Orders {
        Orders { epoch: 1, goal: Goal::Stay, since: Instant::now(), force_after: None, flipped: 0, leave: false }
    }

    #[test]
    fn only_going_back_is_ever_forced_and_only_where_the_author_prefers_traffic() {
        let go = |path, default, command: &Command| ordered(path, command, default, &orders()).unwrap().force_after;
        assert_eq!(go("/cut-over", OnFenceTimeout::PreferTraffic, &command(1)), None);
        assert_eq!(go("/back", OnFenceTimeout::PreferTraffic, &command(2)), Some(Duration::from_secs(2)));
        assert_eq!(go("/back", OnFenceTimeout::PreferData, &command(2)), None);
        let written = Command { on_fence_timeout: Some(OnFenceTimeout::PreferData), ..command(2) };
        assert_eq!(go("/back", OnFenceTimeout::PreferTraffic, &written), None);
    }

    #[test]
    fn the_same_command_again_changes_nothing_and_a_new_one_counts_from_now() {
        let first = ordered("/cut-over", &command(1), OnFenceTimeout::PreferData, &orders()).unwrap();
        let second = ordered("/cut-over", &command(1), OnFenceTimeout::PreferData, &first).unwrap();
        assert_eq!(first, second);
        assert_eq!((first.epoch, first.goal), (3, Goal::Move(1)));
        let lifted = ordered("/lift", &command(1), OnFenceTimeout::PreferData, &first).unwrap();
        assert_eq!(lifted.goal, Goal::Stay);
        assert_eq!(ordered("/nothing", &command(1), OnFenceTimeout::PreferData, &first), None);
        let without = Command { term: None, ..command(1) };
        assert_eq!(ordered("/cut-over", &without, OnFenceTimeout::PreferData, &first), None);
    }
}
