//! The assembler thread: takes commands and packets, hands frames to recorder and analyzer.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use seodang_model::protocol::Consents;
use seodang_model::{LessonId, ParticipantId, Publication};
use seodang_rtp::LessonStart;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::books::Entry;
use super::desk::{Desk, publication};
use super::person::Person;
use super::plan::{Copied, mirrored};
use super::recording::Ending;
use super::sink::{Mirrored, SinkSource};
use super::{KeptReport, LessonInfo, MirrorCommand, Subject};

/// How often fillers, gaps and time-outs are looked after: one sound packet lasts 20 ms.
const TICK: Duration = Duration::from_millis(20);
/// Packets handled between two looks at the commands: a withdrawn consent takes effect within milliseconds.
const BATCH_PACKETS: usize = 256;

/// Owns everybody whose media may be kept. Lives on one thread.
pub(super) struct Assembler {
    desk: Desk,
    sinks: SinkSource,
    lessons: BTreeMap<LessonId, Lesson>,
    people: BTreeMap<ParticipantId, Person>,
    attachments: u64,
}

/// A lesson that is going on.
struct Lesson {
    info: LessonInfo,
    start: LessonStart,
}

impl Assembler {
    pub(super) fn new(desk: Desk, sinks: SinkSource) -> Self {
        Self {
            desk,
            sinks,
            lessons: BTreeMap::new(),
            people: BTreeMap::new(),
            attachments: 0,
        }
    }

    /// Runs until `stop`, then ends every file as a part of a lesson that goes on after the restart.
    pub(super) fn run(
        mut self,
        runtime: &Handle,
        mut commands: mpsc::Receiver<MirrorCommand>,
        packets: &Receiver<Mirrored>,
        stop: &CancellationToken,
    ) {
        let mut ticked = Instant::now();
        let mut idle = false;
        loop {
            if std::mem::take(&mut idle)
                && let Some(command) = runtime.block_on(next(&mut commands, stop))
            {
                self.handle_command(command, packets);
            }
            // Read before the queues: what was sent before the stop is still handled.
            let stopping = stop.is_cancelled();
            while let Ok(command) = commands.try_recv() {
                self.handle_command(command, packets);
            }
            let mut seen = None;
            match packets.recv_timeout(TICK) {
                Ok(item) => {
                    seen = Some(item.arrival);
                    self.handle_packet(item);
                    for item in packets.try_iter().take(BATCH_PACKETS) {
                        seen = Some(item.arrival);
                        self.handle_packet(item);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                // With packets waiting, time is what the socket saw last: a busy machine must not look like loss.
                let now = seen.unwrap_or(ticked);
                self.tick(now);
                idle = seen.is_none() && self.people.values().all(Person::is_idle);
            }
            if stopping {
                return self.stop(packets);
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        let people = self.people.iter().filter(|(_, person)| !person.is_idle());
        let busy: Vec<ParticipantId> = people.map(|(participant, _)| *participant).collect();
        for participant in busy {
            self.contained(participant, |person, desk| person.tick(now, desk));
            self.attach_again(participant, now);
            self.tell_kept(participant, now);
            self.forget_if_over(participant, now);
        }
    }

    /// Who left without leaving anything behind comes back as somebody new; a lesson may see hundreds of them.
    fn forget_if_over(&mut self, participant: ParticipantId, now: Instant) {
        if self
            .people
            .get(&participant)
            .is_some_and(|person| person.is_over(now))
        {
            self.people.remove(&participant);
        }
    }

    fn stop(mut self, packets: &Receiver<Mirrored>) {
        for item in packets.try_iter() {
            self.handle_packet(item);
        }
        let people = std::mem::take(&mut self.people);
        let pending = people
            .into_values()
            .flat_map(|person| close_contained(person, &self.desk))
            .collect();
        self.desk.enter(Entry::Stopping { pending });
    }

    fn handle_packet(&mut self, item: Mirrored) {
        self.contained(item.publication.participant, |person, desk| {
            person.handle(item, desk)
        });
    }

    /// Runs what concerns one participant; a panic in it ends the keeping of that participant alone, and says so.
    fn contained(&mut self, participant: ParticipantId, act: impl FnOnce(&mut Person, &Desk)) {
        let Some(person) = self.people.get_mut(&participant) else {
            return;
        };
        if catch_unwind(AssertUnwindSafe(|| act(person, &self.desk))).is_ok() {
            return;
        }
        tracing::error!(participant.id = %participant, "a panic ended a recording; this is a bug");
        for copied in Copied::all() {
            self.desk.detach(participant, copied);
        }
        // Dropping its writers ends its files as they are.
        self.people.remove(&participant);
        self.desk.report(KeptReport {
            participant,
            kept: Consents::default(),
        });
    }

    fn handle_command(&mut self, command: MirrorCommand, packets: &Receiver<Mirrored>) {
        match command {
            MirrorCommand::LessonOpened(info) => self.open_lesson(info),
            MirrorCommand::Joined(subject) => self.join(subject),
            MirrorCommand::ConsentsChanged {
                participant,
                consents,
            } => self.set_consents(participant, consents),
            MirrorCommand::Withdrawn { participant, still } => {
                if let Some(before) = self.people.get(&participant).map(Person::consents)
                    && before.and(still) != before
                {
                    self.set_consents(participant, before.and(still));
                }
            }
            MirrorCommand::Published(publication) => self.set_sending(publication, true),
            MirrorCommand::Unpublished(publication) => self.set_sending(publication, false),
            MirrorCommand::Away(participant) => self.set_absent(participant, true),
            MirrorCommand::Back(participant) => self.set_absent(participant, false),
            MirrorCommand::Left(participant) => {
                if let Some(person) = self.people.get_mut(&participant) {
                    person.leave(&self.desk);
                }
            }
            MirrorCommand::LessonClosing {
                lesson,
                keep_recordings,
                unstored,
                closed,
            } => {
                // Every sink is dropped already: what the class still said is in the queue and belongs to it.
                for item in packets.try_iter() {
                    self.handle_packet(item);
                }
                let Some(lesson) = self.lessons.remove(&lesson) else {
                    return;
                };
                let mut pending = Vec::new();
                for (participant, person) in std::mem::take(&mut self.people) {
                    if person.lesson() == lesson.info.lesson {
                        pending.extend(close_contained(person, &self.desk));
                    } else {
                        self.people.insert(participant, person);
                    }
                }
                self.desk.enter(Entry::Closing {
                    lesson: lesson.info,
                    pending,
                    keep_recordings,
                    unstored,
                    closed,
                });
            }
        }
    }

    fn open_lesson(&mut self, info: LessonInfo) {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let system = SystemTime::from(info.started_at);
        // A lesson that goes on after a restart began before this process did.
        let age = wall.duration_since(system).unwrap_or_default();
        let instant = now.checked_sub(age).unwrap_or(now);
        self.desk.enter(Entry::Opened {
            lesson: info.lesson,
            room: info.room,
        });
        self.lessons.insert(
            info.lesson,
            Lesson {
                info,
                start: LessonStart { instant, system },
            },
        );
    }

    fn join(&mut self, subject: Subject) {
        let Some(lesson) = self.lessons.get(&subject.lesson) else {
            return;
        };
        let (participant, consents) = (subject.participant, subject.consents);
        match self.people.get_mut(&participant) {
            Some(person) => person.set_absent(false, &self.desk),
            None => {
                self.people
                    .insert(participant, Person::new(subject, &lesson.info, lesson.start));
            }
        }
        // Leaving dropped the sinks, so all that is allowed is attached anew.
        self.apply(participant, consents, true);
    }

    fn set_consents(&mut self, participant: ParticipantId, consents: Consents) {
        self.apply(participant, consents, false);
    }

    /// Attaches what is allowed, detaches what is not allowed any more, and tells what is kept from here on.
    fn apply(&mut self, participant: ParticipantId, consents: Consents, anew: bool) {
        let consents = self.desk.possible(consents);
        let Some(person) = self.people.get_mut(&participant) else {
            return;
        };
        let before = person.consents();
        let layer = self.desk.capture_layer;
        let (had, has) = (mirrored(before, layer), mirrored(consents, layer));
        // What a track holds back from before the yes to recording must not get into the file.
        let anew = anew || (consents.recording && !before.recording);
        for copied in Copied::all() {
            if has.contains(&copied) && (anew || !had.contains(&copied)) {
                self.attachments += 1;
                person.open_track(copied, self.attachments);
                let sink = self
                    .sinks
                    .sink(publication(participant, copied), self.attachments);
                if !self.desk.attach(participant, copied, Box::new(sink)) {
                    person.set_unattached(copied, Instant::now());
                }
            } else if !has.contains(&copied) {
                if had.contains(&copied) {
                    self.desk.detach(participant, copied);
                }
                // One from before the participant left is no longer of use either.
                person.close_track(copied);
            }
        }
        person.set_consents(consents, &self.desk);
        person.set_told(None);
        self.tell_kept(participant, Instant::now());
    }

    /// Offers the SFU the sinks that it did not take.
    fn attach_again(&mut self, participant: ParticipantId, now: Instant) {
        let Some(person) = self.people.get_mut(&participant) else {
            return;
        };
        for (copied, attachment) in person.unattached(now) {
            let sink = self.sinks.sink(publication(participant, copied), attachment);
            if self.desk.attach(participant, copied, Box::new(sink)) {
                person.set_attached(copied);
            } else {
                person.set_unattached(copied, now);
            }
        }
    }

    /// Tells what is kept of somebody, if it is news.
    fn tell_kept(&mut self, participant: ParticipantId, now: Instant) {
        let Some(person) = self.people.get_mut(&participant) else {
            return;
        };
        if let Some(kept) = person.kept_news(now)
            && self.desk.report(KeptReport { participant, kept })
        {
            person.set_told(Some(kept));
        }
    }

    fn set_sending(&mut self, publication: Publication, sending: bool) {
        if let Some(person) = self.people.get_mut(&publication.participant) {
            person.set_sending(publication.source, sending, &self.desk);
        }
    }

    fn set_absent(&mut self, participant: ParticipantId, absent: bool) {
        if let Some(person) = self.people.get_mut(&participant) {
            person.set_absent(absent, &self.desk);
        }
    }
}

/// Waits for what is said next, while nothing is mirrored and so nothing else can come or be due; `None` at the end.
async fn next(
    commands: &mut mpsc::Receiver<MirrorCommand>,
    stop: &CancellationToken,
) -> Option<MirrorCommand> {
    tokio::select! {
        () = stop.cancelled() => None,
        command = commands.recv() => command,
    }
}

/// A panic in the end of one participant's files leaves them as they are, and no other's.
fn close_contained(person: Person, desk: &Desk) -> Vec<Ending> {
    catch_unwind(AssertUnwindSafe(|| person.close(desk))).unwrap_or_else(|_| {
        tracing::error!("a panic ended a recording; this is a bug");
        Vec::new()
    })
}

#[cfg(test)]
mod tests;
