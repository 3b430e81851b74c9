//! Ends a lesson: everybody is told, then media, files and row end, in this order.

use std::sync::atomic::Ordering;

use seodang_model::protocol::{ClientMessage, ClosingReason, ErrorCode};
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
        let closing = timeout(MEDIA_WITHIN, shared.sfu.close_room(lesson));
        let closed = self.meanwhile(&report, closing).await;
        if let Err(error) = closed.unwrap_or(Err(SfuError::Busy)) {
            tracing::warn!(lesson.id = %lesson, %error, "the media worker did not close the room");
        }
        // Whoever took an answer back before being told of the end is not in the files.
        self.empty_queue(&report).await;
        let unstored = self.settle_answers().await;
        let files = shared.mirror.close_lesson(lesson, end.keep_recordings, unstored);
        let files = timeout(shared.config.finish_within, files);
        if !matches!(self.meanwhile(&report, files).await, Ok(Ok(()))) {
            // The row says that it is ending: the next join, or the next start, finishes it.
            tracing::error!(lesson.id = %lesson, "the lesson's files are not finished; it stays open");
            return;
        }
        let row = shared.store.end_lesson(lesson, OffsetDateTime::now_utc());
        match self.meanwhile(&report, row).await {
            Ok(()) => tracing::info!(lesson.id = %lesson, "lesson ended"),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the lesson's end was not stored"
            ),
        }
    }

    /// Answers whoever asks while `future` is on its way.
    async fn meanwhile<T>(&mut self, report: &LessonReport, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                output = &mut future => return output,
                Some(command) = self.commands.recv() => self.handle_late(command, report).await,
            }
        }
    }

    /// Answers whoever has asked until now.
    pub(super) async fn empty_queue(&mut self, report: &LessonReport) {
        while let Ok(command) = self.commands.try_recv() {
            self.handle_late(command, report).await;
        }
    }

    /// Of what is said behind the end, an answer about consent alone has an effect.
    async fn handle_late(&mut self, command: LessonCommand, report: &LessonReport) {
        match command {
            LessonCommand::Message {
                participant,
                message: ClientMessage::Consent(wish),
                ..
            } => self.late_consent(participant, wish).await,
            command => refuse(command, report),
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
