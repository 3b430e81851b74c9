//! Who receives whom, and how that is asked for.

/// How many are in a class and how much each of them receives.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Shape {
    /// How many send a camera and a microphone, and receive.
    #[arg(long, default_value_t = 30)]
    pub(crate) publishers: usize,
    /// How many only receive.
    #[arg(long, default_value_t = 0)]
    pub(crate) watchers: usize,
    /// Cameras each participant receives at most; all of them when it is not given.
    #[arg(long)]
    page: Option<usize>,
    /// Microphones each participant receives at most; all of them when it is not given.
    #[arg(long)]
    voices: Option<usize>,
    /// Classes of that kind at once, in a room each.
    #[arg(long, default_value_t = 1)]
    pub(crate) classes: usize,
}

impl Shape {
    /// One who sends to so many.
    pub(crate) fn seminar(watchers: usize) -> Self {
        Self {
            publishers: 1,
            watchers,
            page: None,
            voices: None,
            classes: 1,
        }
    }

    pub(crate) fn fanout(&self) -> Fanout {
        let all = usize::MAX;
        Fanout::classes(
            self.classes,
            self.publishers,
            self.watchers,
            self.page.unwrap_or(all),
            self.voices.unwrap_or(all),
        )
    }
}

/// Cameras and microphones that each subscriber receives, by number of their source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fanout {
    pub(crate) sources: usize,
    pub(crate) subscribers: Vec<Watch>,
}

/// What one subscriber receives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) cameras: Vec<usize>,
    pub(crate) microphones: Vec<usize>,
}

impl Fanout {
    /// `classes` classes of `publishers` who send and receive and `watchers` who only receive; everyone gets at most
    /// `page` cameras and `voices` microphones of the others.
    pub(crate) fn classes(
        classes: usize,
        publishers: usize,
        watchers: usize,
        page: usize,
        voices: usize,
    ) -> Self {
        let subscribers = (0..classes * (publishers + watchers))
            .map(|subscriber| {
                let (class, place) = (
                    subscriber / (publishers + watchers),
                    subscriber % (publishers + watchers),
                );
                let others = |most: usize| -> Vec<usize> {
                    (1..=publishers)
                        .map(|step| (place + step) % publishers)
                        .filter(|other| *other != place)
                        .take(most)
                        .map(|other| class * publishers + other)
                        .collect()
                };
                Watch {
                    cameras: others(page),
                    microphones: others(voices),
                }
            })
            .collect();
        Self {
            sources: classes * publishers,
            subscribers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_receives_themselves_and_watchers_receive_all() {
        let fanout = Fanout::classes(1, 2, 1, 9, 9);
        let cameras: Vec<_> = fanout
            .subscribers
            .iter()
            .map(|watch| &watch.cameras[..])
            .collect();
        assert_eq!(cameras, [&[1][..], &[0], &[1, 0]]);
    }

    #[test]
    fn classes_stay_apart_and_pages_are_filled_evenly() {
        let fanout = Fanout::classes(2, 8, 0, 6, 5);
        assert_eq!(fanout.sources, 16);
        let mut viewers = vec![0; 16];
        for (subscriber, watch) in fanout.subscribers.iter().enumerate() {
            assert_eq!((watch.cameras.len(), watch.microphones.len()), (6, 5));
            for camera in &watch.cameras {
                assert_eq!(camera / 8, subscriber / 8);
                viewers[*camera] += 1;
            }
        }
        assert_eq!(viewers, vec![6; 16]);
    }
}
