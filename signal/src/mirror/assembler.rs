//! The assembler thread: takes commands and packets, hands frames to recorder and analyzer.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use seodang_model::protocol::Consents;
use seodang_model::{LessonId, ParticipantId, Publication, Source};
use seodang_rtp::LessonStart;
use tokio::sync::mpsc;

use super::desk::Desk;
use super::person::Person;
use super::plan::mirrored_sources;
use super::sink::{Mirrored, SinkSource};
use super::{KeptReport, LessonInfo, MirrorCommand, Subject};

/// How often fillers, gaps and time-outs are looked after: one sound packet lasts 20 ms.
const TICK: Duration = Duration::from_millis(20);
/// Packets handled between two looks at the commands: a withdrawn consent takes effect within milliseconds.
const BATCH_PACKETS: usize = 256;

/// Owns everybody whose media may be kept. Lives on one thread and ends when the commands end.
pub(super) struct Assembler {
    desk: Desk,
    sinks: SinkSource,
    reporter: mpsc::Sender<KeptReport>,
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
    pub(super) fn new(desk: Desk, sinks: SinkSource, reporter: mpsc::Sender<KeptReport>) -> Self {
        let (lessons, people) = (BTreeMap::new(), BTreeMap::new());
        Self { desk, sinks, reporter, lessons, people, attachments: 0 }
    }

    /// Runs until every sender of commands is gone.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<MirrorCommand>, packets: &Receiver<Mirrored>) {
        let mut ticked = Instant::now();
        loop {
            loop {
                match commands.try_recv() {
                    Ok(command) => self.handle_command(command, packets),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
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
                for person in self.people.values_mut() {
                    person.tick(now, &self.desk);
                }
            }
        }
    }

    fn handle_packet(&mut self, item: Mirrored) {
        if let Some(person) = self.people.get_mut(&item.publication.participant) {
            person.handle(item, &self.desk);
        }
    }

    fn handle_command(&mut self, command: MirrorCommand, packets: &Receiver<Mirrored>) {
        match command {
            MirrorCommand::LessonOpened(info) => self.open_lesson(info),
            MirrorCommand::Joined(subject) => self.join(subject),
            MirrorCommand::ConsentsChanged { participant, consents } => self.set_consents(participant, consents),
            MirrorCommand::Published(publication) => self.set_sending(publication, true),
            MirrorCommand::Unpublished(publication) => self.set_sending(publication, false),
            MirrorCommand::Away(participant) => self.set_away(participant, true),
            MirrorCommand::Back(participant) => self.set_away(participant, false),
            MirrorCommand::Left(participant) => {
                if let Some(person) = self.people.get_mut(&participant) {
                    person.leave(&self.desk);
                }
            }
            MirrorCommand::LessonClosing { lesson, keep_recordings, closed } => {
                // Every sink is dropped already: what the class still said is in the queue and belongs to it.
                for item in packets.try_iter() {
                    self.handle_packet(item);
                }
                let Some(lesson) = self.lessons.remove(&lesson) else { return };
                let (gone, stay) = std::mem::take(&mut self.people)
                    .into_iter()
                    .partition(|(_, person)| person.lesson() == lesson.info.lesson);
                self.people = stay;
                let gone: BTreeMap<ParticipantId, Person> = gone;
                let people = gone.into_values().map(|person| person.close(&self.desk)).collect();
                self.desk.finish_lesson(lesson.info, people, keep_recordings, closed);
            }
        }
    }

    fn open_lesson(&mut self, info: LessonInfo) {
        let now = (Instant::now(), SystemTime::now());
        let started = SystemTime::from(info.started_at);
        // A lesson that goes on after a restart began before this process did.
        let age = now.1.duration_since(started).unwrap_or_default();
        let instant = now.0.checked_sub(age).unwrap_or(now.0);
        self.desk.open_lesson(&info);
        self.lessons.insert(info.lesson, Lesson { info, start: LessonStart { instant, system: started } });
    }

    fn join(&mut self, subject: Subject) {
        let Some(lesson) = self.lessons.get(&subject.lesson) else { return };
        let (participant, consents) = (subject.participant, subject.consents);
        match self.people.get_mut(&participant) {
            Some(person) => person.come_back(&self.desk),
            None => {
                self.people.insert(participant, Person::new(subject, &lesson.info, lesson.start));
            }
        }
        self.attach(participant, consents, &[]);
        self.apply(participant, consents);
    }

    fn set_consents(&mut self, participant: ParticipantId, consents: Consents) {
        let Some(person) = self.people.get(&participant) else { return };
        let before: Vec<Source> = mirrored_sources(person.consents()).into_iter().collect();
        self.attach(participant, consents, &before);
        self.apply(participant, consents);
    }

    /// Attaches what is newly allowed, detaches what is not allowed any more.
    fn attach(&mut self, participant: ParticipantId, consents: Consents, before: &[Source]) {
        let allowed = mirrored_sources(consents);
        for source in Source::ALL {
            let publication = Publication { participant, source };
            match (allowed.contains(&source), before.contains(&source)) {
                (true, false) => {
                    self.attachments += 1;
                    if let Some(person) = self.people.get_mut(&participant) {
                        person.open_track(source, self.attachments);
                    }
                    self.desk.attach(publication, Box::new(self.sinks.sink(publication, self.attachments)));
                }
                (false, true) => {
                    self.desk.detach(publication);
                    if let Some(person) = self.people.get_mut(&participant) {
                        person.close_track(source);
                    }
                }
                _ => {}
            }
        }
    }

    fn apply(&mut self, participant: ParticipantId, consents: Consents) {
        if let Some(person) = self.people.get_mut(&participant) {
            person.set_consents(consents, &self.desk);
            self.desk.report(&self.reporter, KeptReport { participant, kept: consents });
        }
    }

    fn set_sending(&mut self, publication: Publication, sending: bool) {
        if let Some(person) = self.people.get_mut(&publication.participant) {
            person.set_sending(publication.source, sending, &self.desk);
        }
    }

    fn set_away(&mut self, participant: ParticipantId, away: bool) {
        if let Some(person) = self.people.get_mut(&participant) {
            person.set_away(away, &self.desk);
        }
    }
}
