//! Frames of 100 messages on one socket and on eight, beside batches of 100 over HTTP into the
//! same partitions.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;

use crate::{
    Bench,
    load::{
        generator::{self, Worker},
        payload::{self, Shape},
        socket::{Socket, is_ok},
    },
    report::{Bar, Line, number},
    rounds::{self, Samples},
};

const TOPIC: &str = "frames";
const SHAPE: Shape = Shape::Batch(100);
const CONNECTIONS: usize = 64;
const SOCKETS: usize = 8;
/// Frames under way on each socket.
const IN_FLIGHT: usize = 16;
const ONE: usize = 0;
const EIGHT: usize = 1;
const REST: usize = 2;

/// Measures both.
///
/// # Errors
/// When the node fails, or what was acknowledged is not in the log.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let (plan, partitions) = (bench.options.plan(), SHAPE.partitions());
    let node = bench.node("frames").await?;
    node.create(TOPIC, partitions).await?;
    let (address, parties) = (node.address, node.parties()?);
    let requests = Arc::new(payload::publishes(address, TOPIC, SHAPE));
    let frames = Arc::new(payload::publish_frames(TOPIC, SHAPE));
    let mut acknowledged = 0;
    let samples = rounds::interleave(plan, &bench.echo, 3, None, async |side| {
        let sockets = if side == ONE { 1 } else { SOCKETS };
        let (sample, messages) = match side {
            REST => {
                let each = SHAPE.messages();
                let load = generator::publish(plan.timing, address, &requests, each, CONNECTIONS);
                rounds::observe(&parties, load).await?
            }
            _ => {
                let frames = Arc::clone(&frames);
                let load = generator::drive(plan.timing, sockets, move |number| {
                    Pipelined::open(address, Arc::clone(&frames), number)
                });
                rounds::observe(&parties, load).await?
            }
        };
        acknowledged += messages;
        Ok(sample)
    })
    .await?;
    node.verify(TOPIC, partitions, acknowledged).await?;
    line(bench, "one socket, 16 in flight", &samples, ONE, 0.7);
    line(bench, "eight sockets, 16 in flight each", &samples, EIGHT, 1.0);
    bench.saw(&node);
    Ok(())
}

fn line(bench: &mut Bench, what: &str, samples: &Samples, side: usize, least: f64) {
    bench.report.line(Line {
        what: format!("frames of 100, {what}: messages/s"),
        ours: format!("{}/s", number(samples.figure(side))),
        floor: format!("REST, 64 connections {}/s", number(samples.figure(REST))),
        figure: samples.ratio(side, REST),
        bar: Bar::AtLeast(least),
        note: samples.note(side, REST),
        void: samples.void.clone(),
    });
}

/// A socket with several frames under way. Its times are those between two answers.
struct Pipelined {
    socket: Socket,
    frames: Arc<Vec<Vec<u8>>>,
    next: usize,
    under_way: usize,
}

impl Pipelined {
    async fn open(address: SocketAddr, frames: Arc<Vec<Vec<u8>>>, number: usize) -> Result<Self> {
        let next = number * frames.len() / SOCKETS;
        Ok(Self { socket: Socket::open(address).await?, frames, next, under_way: 0 })
    }

    async fn answered(&mut self) -> Result<u64> {
        is_ok(self.socket.next().await?)?;
        self.under_way -= 1;
        Ok(SHAPE.messages())
    }
}

impl Worker for Pipelined {
    async fn once(&mut self) -> Result<u64> {
        while self.under_way < IN_FLIGHT {
            self.socket.send(&self.frames[self.next]).await?;
            self.next = (self.next + 1) % self.frames.len();
            self.under_way += 1;
        }
        self.answered().await
    }

    async fn end(&mut self) -> Result<u64> {
        let mut messages = 0;
        while self.under_way > 0 {
            messages += self.answered().await?;
        }
        Ok(messages)
    }
}
