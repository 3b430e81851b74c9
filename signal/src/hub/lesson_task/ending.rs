//! Ends a lesson: everybody is told, then media, files and row end, in this order.

use std::sync::atomic::Ordering;

use seodang_model::protocol::{ClosingReason, ErrorCode};
use seodang_sfu::SfuError;
use time::OffsetDateTime;
use tokio::time::timeout;

use super::{LessonCommand, LessonTask};
use crate::error::ApiError;
use crate::hub::report::LessonReport;
use crate::hub::{MEDIA_WITHIN, unavailable};
use crate::store::{EndReason, LessonEnd};

impl LessonTask {
    /// Stores that the lesson ends; the loop does the rest.
    pub(super) async fn begin_ending(&mut self, end: LessonEnd) -> Result<(), ApiError> {
        let lesson = self.lesson.record().id;
        self.shared
            .store
            .begin_ending_lesson(lesson, end)
            .await
            .map_err(|error| unavailable(&error))?;
        self.ending = Some(end);
        let outputs = self.lesson.handle_end(ClosingReason::LessonEnded);
        self.carry_out(outputs).await;
        Ok(())
    }

    /// Tells everybody, then ends media, files and row, in this order. Nobody joins meanwhile.
    pub(super) async fn finish(mut self) {
        let Some(end) = self.ending else { return };
        self.gauge.open.store(false, Ordering::Relaxed);
        let told = match end.reason {
            EndReason::HostMissing => ClosingReason::HostMissing,
            EndReason::Closed | EndReason::Empty => ClosingReason::LessonEnded,
        };
        let outputs = self.lesson.handle_end(told);
        self.carry_out(outputs).await;
        let lesson = self.lesson.record().id;
        tracing::info!(lesson.id = %lesson, reason = end.reason.as_str(), keep = end.keep_recordings, "lesson ends");
        for user in self.lesson.users() {
            self.shared.drop_news(user.participant);
        }
        let report = self.report();
        let shared = self.shared.clone();
        let mut finishing = std::pin::pin!(async {
            let closing = timeout(MEDIA_WITHIN, shared.sfu.close_room(lesson)).await;
            if let Err(error) = closing.unwrap_or(Err(SfuError::Busy)) {
                tracing::warn!(lesson.id = %lesson, %error, "the media worker did not close the room");
            }
            let files = shared.mirror.close_lesson(lesson, end.keep_recordings);
            if !matches!(timeout(shared.config.finish_within, files).await, Ok(Ok(()))) {
                // The row says that it is ending: the next join, or the next start, finishes it.
                tracing::error!(lesson.id = %lesson, "the lesson's files are not finished; it stays open");
                return;
            }
            if let Err(error) = shared.store.end_lesson(lesson, OffsetDateTime::now_utc()).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the lesson's end was not stored"
                );
                return;
            }
            tracing::info!(lesson.id = %lesson, "lesson ended");
        });
        loop {
            tokio::select! {
                () = &mut finishing => break,
                Some(command) = self.commands.recv() => refuse(command, &report),
            }
        }
    }
}

/// What a lesson answers that is ending.
fn refuse(command: LessonCommand, report: &LessonReport) {
    match command {
        LessonCommand::Join { answer, .. } => {
            let text = "the last lesson is being finished; try again in a few seconds";
            let _ = answer.send(Err(ApiError::new(ErrorCode::Unavailable, text)));
        }
        LessonCommand::Close { answer, .. } => {
            let _ = answer.send(Ok(()));
        }
        LessonCommand::Report { answer } => {
            let _ = answer.send(report.clone());
        }
        LessonCommand::Message { .. } | LessonCommand::Disconnected { .. } => {}
    }
}
