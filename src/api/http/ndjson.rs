//! Publishing NDJSON: a message a line, committed by at most
//! [`limits::NDJSON_COMMIT_LINES`] lines. Each committed line is answered by one line; the first
//! bad one ends the answer with its problem, and what was answered before stands.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;

use super::publish::{Published, depends_on_topic, publish as publish_records};
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem},
        extract::{Object, json_problem},
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
    body: Bytes,
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
    body: Bytes,
    request_id: RequestId,
) -> Result<Response, Problem> {
    let mut upload = Upload { state, tenant, name, body, line: 0, committed: 0, bad: None };
    let first = match upload.next().await {
        None => {
            let detail = "a publish has at least one message";
            return Err(Problem::new(ErrorCode::Invalid, detail));
        }
        Some(Err((problem, 0))) => return Err(problem),
        Some(first) => first,
    };
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
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, kind)], body).into_response())
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
        let published = publish_records(&self.state, self.tenant, &self.name, bytes, records).await;
        self.bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
        let before = self.committed;
        if let Ok(published) = &published {
            self.committed += published.count();
        }
        Some(published.map_err(|problem| (problem, before)))
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
