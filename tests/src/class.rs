//! Rooms and scripted classes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use seodang_fixtures::{JoinOptions, ScriptedParticipant};
use seodang_model::{Source, Token};
use serde_json::json;

use crate::{PATIENCE, TestServer, get, post, until};

/// A room that was created over HTTP.
#[derive(Clone, Debug)]
pub struct TestRoom {
    /// Its number.
    pub number: String,
    /// Makes whoever presents it a host.
    pub host_token: Token,
    server: String,
}

impl TestRoom {
    /// Creates a room of this kind (`meeting` or `seminar`).
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create(server: &TestServer, kind: &str) -> anyhow::Result<Self> {
        Self::create_at(server.address(), kind).await
    }

    /// The same on a server that runs as a program.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_at(server: SocketAddr, kind: &str) -> anyhow::Result<Self> {
        let body = json!({"title": "Sums", "name": "Ms Han", "kind": kind, "listed": true});
        let reply = post(server, "/api/v1/rooms", None, &body).await?;
        ensure!(
            reply.status == 201 || reply.status == 200,
            "{}: {}",
            reply.status,
            reply.json()
        );
        let json = reply.json();
        let text = |pointer: &str| json.pointer(pointer).and_then(|value| value.as_str());
        Ok(Self {
            number: text("/room/number").context("no number")?.to_owned(),
            host_token: Token::presented(text("/host_token").context("no host token")?),
            server: format!("http://{server}"),
        })
    }

    /// Ends the lesson over HTTP, keeping its files, and waits until they are finished.
    ///
    /// # Errors
    /// When the server refuses, or the files are not finished within [`PATIENCE`].
    pub async fn close(&self, server: &TestServer) -> anyhow::Result<()> {
        let (bearer, path) = (
            Some(self.host_token.as_str()),
            format!("/api/v1/rooms/{}", self.number),
        );
        let body = json!({"keep_recordings": true});
        let reply = post(server.address(), &format!("{path}/close"), bearer, &body).await?;
        ensure!(reply.status == 202, "{}: {}", reply.status, reply.json());
        until("finished files", async || {
            let state = get(server.address(), &format!("{path}/state"), bearer).await?;
            Ok((state.status == 200 && state.json()["lesson"].is_null()).then_some(()))
        })
        .await
    }

    /// Options of a student; number and name go together.
    #[must_use]
    pub fn student(&self, number: u8) -> JoinOptions {
        JoinOptions::new(&self.server, &self.number, &format!("student{number}"), number)
    }

    /// Options of the host, number 0.
    #[must_use]
    pub fn host(&self) -> JoinOptions {
        JoinOptions {
            host_token: Some(self.host_token.clone()),
            ..JoinOptions::new(&self.server, &self.number, "teacher", 0)
        }
    }
}

/// A host and students who all publish camera and microphone.
#[derive(Debug)]
pub struct Class {
    /// The room.
    pub room: TestRoom,
    /// The host first; everyone's number is the place here.
    pub people: Vec<ScriptedParticipant>,
}

impl Class {
    /// Opens a meeting with a host and `students` students, one after the other, all publishing.
    ///
    /// # Errors
    /// When somebody cannot join.
    pub async fn meet(server: &TestServer, students: u8) -> anyhow::Result<Self> {
        let room = TestRoom::create(server, "meeting").await?;
        let mut people = vec![ScriptedParticipant::join(room.host()).await?];
        for number in 1..=students {
            people.push(ScriptedParticipant::join(room.student(number)).await?);
        }
        for person in &mut people {
            publish_camera_and_microphone(person).await?;
        }
        Ok(Self { room, people })
    }

    /// Waits until everyone sees moving pictures of everyone else and hears everyone else.
    ///
    /// # Errors
    /// When somebody stays unseen or unheard, by numbers.
    pub async fn all_see_and_hear_all(&self) -> anyhow::Result<()> {
        for watcher in &self.people {
            for shown in self
                .people
                .iter()
                .filter(|shown| shown.number() != watcher.number())
            {
                sees_and_hears(watcher, shown.number(), PATIENCE).await?;
            }
        }
        Ok(())
    }
}

/// Waits until `watcher` has seen ten different frames of `number` and heard its tone.
async fn sees_and_hears(watcher: &ScriptedParticipant, number: u8, limit: Duration) -> anyhow::Result<()> {
    let what = format!("{} sees and hears {number}", watcher.number());
    watcher
        .wait_for(&what, limit, |seen| {
            let frames: std::collections::BTreeSet<u32> = seen.frames_of(number).collect();
            (frames.len() >= 10 && seen.heard(number)).then_some(())
        })
        .await?;
    Ok(())
}

/// What everyone in a meeting does first.
///
/// # Errors
/// When the socket or the media connection is gone.
pub async fn publish_camera_and_microphone(person: &mut ScriptedParticipant) -> anyhow::Result<()> {
    person.publish(Source::Camera).await?;
    person.publish(Source::Microphone).await?;
    Ok(())
}
