//! Publishing NDJSON: a message a line, committed by at most
//! [`limits::NDJSON_COMMIT_LINES`] lines. Each committed line is answered by one line; the first
//! bad one ends the answer with its problem, and what was answered before stands.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;

use super::publish::{Asked, Published, depends_on_topic, publish as publish_records};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem},
        extract::{IdempotencyKey, Object, json_problem},
        layers::RequestId,
        message::{self, MessageIn, RequestRecords},
    },
    catalog::Topic,
    model::{Name, TenantId, limits},
};

/// What is left of a body, line by line.
struct Upload {
    state: AppState,
    tenant: TenantId,
    name: Name,
    /// The headers, where they hold an `Idempotency-Key`: each commit has its own.
    headers: Option<HeaderMap>,
    body: Bytes,
    chunk: usize,
    line: usize,
    committed: usize,
    bad: Option<Problem>,
}

/// Publishes a body of lines. When already the first lines are refused, the answer is that
/// problem; later ones can only end the answer that has begun.
pub(super) async fn publish(
    state: AppState,
    tenant: TenantId,
    name: Name,
    (headers, body): (Option<HeaderMap>, Bytes),
    request_id: RequestId,
) -> Result<Response, Problem> {
    let (chunk, line, committed, bad) = (0, 0, 0, None);
    let mut upload = Upload { state, tenant, name, headers, body, chunk, line, committed, bad };
    let first = match upload.next().await {
        None => {
            let detail = "a publish has at least one message";
            return Err(Problem::new(ErrorCode::Invalid, detail));
        }
        Some(Err((problem, 0))) => return Err(problem),
        Some(first) => first,
    };
    let mut head = Response::default();
    if let Ok(published) = &first {
        published.tell(&mut head);
    }
    let lines = stream::unfold(Some((upload, Some(first), request_id)), |step| async {
        let (mut upload, ready, request_id) = step?;
        let chunk = match ready {
            Some(chunk) => chunk,
            None => upload.next().await?,
        };
        let (text, ended) = written(chunk, &request_id);
        let rest = if ended { None } else { Some((upload, None, request_id)) };
        Some((Ok::<_, std::convert::Infallible>(text), rest))
    });
    let kind = HeaderValue::from_static("application/x-ndjson");
    let body = Body::from_stream(lines);
    let head = head.headers().clone();
    Ok((StatusCode::OK, head, [(header::CONTENT_TYPE, kind)], body).into_response())
}

type Chunk = Result<Published, (Problem, usize)>;

fn written(chunk: Chunk, request_id: &RequestId) -> (Bytes, bool) {
    match chunk {
        Ok(published) => {
            let mut text = String::new();
            let durability = published.durability();
            published.each(|partition, offset| {
                text.push_str(&format!(
                    "{{\"partition\":{partition},\"offset\":{offset},\
                     \"durability\":\"{durability}\"}}\n"
                ));
            });
            (text.into(), false)
        }
        Err((problem, _)) => {
            let problem =
                serde_json::to_string(&problem.body(request_id.as_str())).expect("plain JSON");
            (format!("{{\"error\":{problem}}}\n").into(), true)
        }
    }
}

impl Upload {
    /// Commits the next lines, those before the first bad one. An error comes with the number of
    /// lines committed before it.
    async fn next(&mut self) -> Option<Chunk> {
        if let Some(problem) = self.bad.take() {
            return Some(Err((problem, self.committed)));
        }
        let lines = self.take_lines();
        if lines.is_empty() {
            return None;
        }
        let bytes = lines.iter().map(|(_, line)| line.len()).sum();
        let (key, route) = match self.key(&lines) {
            Ok(key) => key,
            Err(problem) => return Some(Err((problem, self.committed))),
        };
        let key = key.as_ref().map(|key| (key, route.as_str()));
        let bad = Mutex::new(None);
        let was_refused = AtomicBool::new(false);
        let records = |topic: &Topic, keyless| {
            let (records, problem) = sort(&lines, topic, keyless);
            match problem {
                Some(problem) if records.placed.is_empty() => Err(problem),
                // Refused once, so that it is sorted anew by the topic as it stands.
                Some(problem)
                    if depends_on_topic(&problem) && !was_refused.swap(true, Ordering::Relaxed) =>
                {
                    Err(problem)
                }
                problem => {
                    *bad.lock().unwrap_or_else(PoisonError::into_inner) = problem;
                    Ok(records)
                }
            }
        };
        let asked = Asked { tenant: self.tenant, name: &self.name, bytes, key };
        let published = publish_records(&self.state, asked, records).await;
        self.bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
        let before = self.committed;
        if let Ok(published) = &published {
            self.committed += published.count();
        }
        Some(published.map_err(|problem| (problem, before)))
    }

    /// The key of the next commit and what it counts for: an upload that is sent again gets the
    /// first answers as far as it came, and goes on from there.
    fn key(
        &mut self,
        lines: &[(usize, Bytes)],
    ) -> Result<(Option<IdempotencyKey>, String), Problem> {
        let Some(headers) = &self.headers else { return Ok((None, String::new())) };
        let key = IdempotencyKey::of(headers, |asks| {
            lines.iter().for_each(|(_, line)| asks.add(b'l', line.trim_ascii()));
        })?;
        self.chunk += 1;
        Ok((key, format!("messages/lines/{}", self.chunk)))
    }

    /// Whole lines that are not blank, with their numbers, up to the bound of a commit.
    fn take_lines(&mut self) -> Vec<(usize, Bytes)> {
        let mut lines = Vec::new();
        while lines.len() < limits::NDJSON_COMMIT_LINES && !self.body.is_empty() {
            let end = self.body.iter().position(|byte| *byte == b'\n');
            let line = self.body.split_to(end.map_or(self.body.len(), |end| end + 1));
            self.line += 1;
            if !line.trim_ascii().is_empty() {
                lines.push((self.line, line));
            }
        }
        lines
    }
}

/// The messages before the first bad line, and what is wrong with that.
fn sort(
    lines: &[(usize, Bytes)],
    topic: &Topic,
    keyless: u32,
) -> (RequestRecords, Option<Problem>) {
    let mut records = RequestRecords::default();
    for (number, line) in lines {
        let parsed = serde_json::from_slice::<Object<MessageIn<'_>>>(line)
            .map_err(|_| json_problem::<Object<MessageIn<'_>>>(line));
        let placed = parsed.and_then(|Object(message)| {
            message::place(&message, topic, keyless, &mut records)
                .map_err(|refused| refused.problem(""))
        });
        if let Err(mut problem) = placed {
            problem.detail = format!("line {number}: {}", problem.detail);
            return (records, Some(problem.fact("line", *number)));
        }
    }
    (records, None)
}
