//! A client of `/v1/ws`: it says what it is told to, keeps what came until a test asks for it, and
//! does nothing by itself but answer pings.

use std::{collections::VecDeque, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        http::HeaderValue,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::soon;

/// The only sub-protocol.
pub const PROTOCOL: &str = "postrider.v1.json";

/// A socket and what came over it that nobody has asked for yet.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    inbox: VecDeque<Value>,
    ended: Option<u16>,
    next_id: u64,
}

/// How an upgrade was refused.
#[derive(Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The problem.
    pub problem: Value,
}

impl Socket {
    /// One to the node at `base`, such as `127.0.0.1:8080` or `http://127.0.0.1:8080`.
    pub async fn open(base: &str) -> Self {
        let opened = Self::try_open(base, &[("sec-websocket-protocol", PROTOCOL)]).await;
        opened.unwrap_or_else(|refusal| panic!("no socket: {refusal:?}"))
    }

    /// Asks for an upgrade with these headers and no others beyond what every client sends.
    pub async fn try_open(base: &str, headers: &[(&'static str, &str)]) -> Result<Self, Refusal> {
        let authority = base.trim_start_matches("http://").trim_end_matches('/');
        let tcp = soon("a connection", TcpStream::connect(authority)).await.expect("connects");
        tcp.set_nodelay(true).expect("a connection");
        let url = format!("ws://{authority}/v1/ws");
        let mut request = url.into_client_request().expect("a request");
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a header");
            request.headers_mut().insert(*name, value);
        }
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        match soon("an upgrade", client_async_with_config(request, tcp, Some(config))).await {
            Ok((stream, answer)) => {
                let chosen = answer.headers().get("sec-websocket-protocol");
                let asked = headers.iter().any(|(name, _)| *name == "sec-websocket-protocol");
                assert_eq!(chosen.is_some(), asked, "{answer:?}");
                assert!(!answer.headers().contains_key("sec-websocket-extensions"), "{answer:?}");
                Ok(Self { stream, inbox: VecDeque::new(), ended: None, next_id: 0 })
            }
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                let problem = serde_json::from_slice(body).unwrap_or(Value::Null);
                Err(Refusal { status: answer.status().as_u16(), problem })
            }
            Err(why) => panic!("no answer to an upgrade: {why}"),
        }
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: Value) {
        self.send_message(Message::text(frame.to_string())).await;
    }

    /// Sends any message, such as a binary one.
    pub async fn send_message(&mut self, message: Message) {
        self.stream.send(message).await.expect("a socket that is open");
    }

    /// Sends a frame under an id of its own, which is returned.
    pub async fn ask(&mut self, mut frame: Value) -> u64 {
        self.next_id += 1;
        frame["id"] = json!(self.next_id);
        self.send(frame).await;
        self.next_id
    }

    /// Sends a frame under an id of its own and waits for its `ok`.
    pub async fn call(&mut self, frame: Value) -> Value {
        let id = self.ask(frame).await;
        let answer = self.answer(id).await;
        assert_eq!(answer["op"], "ok", "{answer}");
        answer
    }

    /// Sends a frame under an id of its own and waits for its problem, which has this code.
    pub async fn refused(&mut self, frame: Value, code: &str) -> Value {
        let id = self.ask(frame).await;
        let mut answer = self.answer(id).await;
        assert_eq!((&answer["op"], &answer["error"]["code"]), (&json!("error"), &json!(code)));
        answer["error"].take()
    }

    /// Waits for the answer to what was asked under `id`.
    pub async fn answer(&mut self, id: u64) -> Value {
        self.find(&format!("an answer to {id}"), |frame| frame["id"] == id).await
    }

    /// Waits for a frame of this `op`.
    pub async fn expect(&mut self, op: &str) -> Value {
        self.find(op, |frame| frame["op"] == op).await
    }

    /// Waits for a frame of this `op` of a subscription.
    pub async fn of(&mut self, sub: &str, op: &str) -> Value {
        let what = format!("{op} of {sub}");
        self.find(&what, |frame| frame["op"] == op && frame["sub"] == sub).await
    }

    /// The oldest frame that nobody has asked for.
    pub async fn next(&mut self) -> Value {
        self.find("a frame", |_| true).await
    }

    /// The next `count` messages of a subscription, in the order in which they came, each with
    /// `topic`, `partition` and, in a group, `epoch`. More than asked for is wrong.
    pub async fn messages(&mut self, sub: &str, count: usize) -> Vec<Value> {
        let mut all = Vec::new();
        while all.len() < count {
            let mut frame = self.of(sub, "messages").await;
            let Value::Array(messages) = frame["messages"].take() else { panic!("{frame}") };
            assert!(!messages.is_empty(), "a frame of no messages: {frame}");
            all.extend(messages.into_iter().map(|mut message| {
                for name in ["topic", "partition", "epoch"] {
                    if let Some(value) = frame.get(name) {
                        message[name] = value.clone();
                    }
                }
                message
            }));
        }
        assert_eq!(all.len(), count, "more messages than were asked for: {all:?}");
        all
    }

    /// The oldest frame of this `op` that came already.
    pub fn waiting(&mut self, op: &str) -> Option<Value> {
        let at = self.inbox.iter().position(|frame| frame["op"] == op)?;
        self.inbox.remove(at)
    }

    /// Drops what came of a subscription and nobody asked for.
    pub fn forget(&mut self, sub: &str) {
        self.inbox.retain(|frame| frame["sub"] != sub);
    }

    /// Checks that no frame of this `op` came, nor comes for a while.
    pub async fn has_no_more(&mut self, op: &str, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while let Ok(Some(frame)) = tokio::time::timeout_at(until, self.read()).await {
            self.inbox.push_back(frame);
        }
        assert_eq!(self.waiting(op), None);
    }

    /// Checks that nothing comes for a while.
    pub async fn is_quiet_for(&mut self, time: Duration) {
        assert!(self.inbox.is_empty(), "{:?}", self.inbox);
        if let Ok(came) = tokio::time::timeout(time, self.read()).await {
            panic!("{came:?} while nothing was to come");
        }
    }

    /// Reads until the other side closes, and keeps the frames before it: the code, 1005 where it
    /// gave none, 1006 where the connection just ended.
    pub async fn closed(&mut self) -> u16 {
        loop {
            if let Some(code) = self.ended {
                return code;
            }
            if let Some(frame) = soon("a close", self.read()).await {
                self.inbox.push_back(frame);
            }
        }
    }

    /// What came and nobody has asked for.
    pub fn rest(&mut self) -> Vec<Value> {
        self.inbox.drain(..).collect()
    }

    /// Closes in order and waits for the answer.
    pub async fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.stream.close(Some(frame)).await.expect("a socket that is open");
        assert_eq!(self.closed().await, 1000);
    }

    /// The first frame that fits, among those that came before or are still to come.
    pub async fn find(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.inbox.iter().position(&fits) {
            return self.inbox.remove(at).expect("found");
        }
        let found = async {
            loop {
                match self.read().await {
                    Some(frame) if fits(&frame) => return Some(frame),
                    Some(frame) => self.inbox.push_back(frame),
                    None => return None,
                }
            }
        };
        match tokio::time::timeout(super::PATIENCE, found).await {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                panic!("closed with {:?} before {what}; came: {:?}", self.ended, self.inbox)
            }
            Err(_) => panic!("not within {:?}: {what}; came: {:?}", super::PATIENCE, self.inbox),
        }
    }

    /// The next frame; none when the socket has ended.
    async fn read(&mut self) -> Option<Value> {
        while self.ended.is_none() {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("JSON");
                    assert!(frame["op"].is_string(), "a frame without op: {frame}");
                    return Some(frame);
                }
                Some(Ok(Message::Close(Some(frame)))) => self.ended = Some(frame.code.into()),
                Some(Ok(Message::Close(None))) => self.ended = Some(1005),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("{other:?}"),
                None | Some(Err(_)) => self.ended = Some(1006),
            }
        }
        None
    }
}

#[cfg(test)]
pub mod tests {
    use postrider::lifecycle::Lifecycle;
    use tokio::net::TcpListener;
    use tokio_tungstenite::{
        accept_hdr_async,
        tungstenite::{
            handshake::server::{ErrorResponse, Request, Response},
            http::StatusCode,
        },
    };

    use super::*;
    use crate::support::Socket;

    /// Answers what it is asked in an order of its own, and closes when it is told to.
    pub async fn a_server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let life = Lifecycle::new();
        let serve = async move |tcp: TcpStream| {
            #[expect(clippy::result_large_err, reason = "tungstenite's own shape")]
            let choose = |asked: &Request, mut answer: Response| {
                let Some(asked) = asked.headers().get("sec-websocket-protocol") else {
                    let (mut head, ()) = answer.into_parts();
                    head.status = StatusCode::BAD_REQUEST;
                    let problem = json!({"code": "malformed"}).to_string();
                    return Err(ErrorResponse::from_parts(head, Some(problem)));
                };
                answer.headers_mut().insert("sec-websocket-protocol", asked.clone());
                Ok(answer)
            };
            let Ok(mut stream) = accept_hdr_async(tcp, choose).await else { return };
            while let Some(Ok(message)) = stream.next().await {
                let Message::Text(text) = message else { continue };
                let Ok(asked) = serde_json::from_str::<Value>(&text) else { return };
                let (id, sub) = (asked["id"].clone(), asked["sub"].clone());
                let answers = match asked["op"].as_str() {
                    Some("subscribe") => vec![
                        json!({"op": "messages", "sub": sub, "topic": "t", "partition": 0,
                            "messages": [{"offset": 0}]}),
                        json!({"op": "messages", "sub": "other", "topic": "t", "partition": 0,
                            "messages": [{"offset": 7}]}),
                        json!({"op": "messages", "sub": sub, "topic": "t", "partition": 1,
                            "messages": [{"offset": 0}, {"offset": 1}]}),
                        json!({"op": "ok", "id": id, "sub": sub}),
                    ],
                    Some("end") => {
                        let code = CloseCode::from(4000);
                        let _ = stream.close(Some(CloseFrame { code, reason: "".into() })).await;
                        continue;
                    }
                    _ => vec![json!({"op": "error", "id": id, "error": {"code": "invalid"}})],
                };
                for answer in answers {
                    let _ = stream.send(Message::text(answer.to_string())).await;
                }
            }
        };
        life.clone().spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                drop(life.spawn(serve(tcp)));
            }
        });
        address
    }

    #[tokio::test]
    async fn a_client_finds_what_came_before_it_asked() {
        let address = a_server().await;
        let mut socket = Socket::open(&address).await;
        socket.call(json!({"op": "subscribe", "sub": "a"})).await;
        let places = |message: &Value| (message["partition"].as_u64(), message["offset"].as_u64());
        let messages = socket.messages("a", 3).await;
        let found: Vec<_> = messages.iter().map(places).collect();
        assert_eq!(found, [(Some(0), Some(0)), (Some(1), Some(0)), (Some(1), Some(1))]);
        assert_eq!(socket.expect("messages").await["sub"], "other");
        socket.is_quiet_for(Duration::from_millis(50)).await;
        socket.refused(json!({"op": "odd"}), "invalid").await;
        socket.send(json!({"op": "odd"})).await;
        assert_eq!(socket.next().await["op"], "error");
        socket.send(json!({"op": "end"})).await;
        assert_eq!(socket.closed().await, 4000);
        let refused = Socket::try_open(&address, &[]).await;
        let refused = refused.err().expect("this server wants a sub-protocol");
        assert_eq!((refused.status, &refused.problem["code"]), (400, &json!("malformed")));
        Socket::open(&address).await.close().await;
    }
}
