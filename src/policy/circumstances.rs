//! Circumstances of a request, in classes: what differs in a count or a moment only is the same question.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use cedar_policy::RestrictedExpression;
use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

use super::Resource;

/// What a policy may stand on beside who, what and which key. It is the context of the schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Circumstances {
    /// The configured network that the caller is in; [`ELSEWHERE`] if none has its address.
    pub network: String,
    /// How much is asked for.
    pub batch: BatchSize,
    /// The configured windows of time that are open.
    pub windows: BTreeSet<String>,
    /// The backends that hold the key, or are to.
    pub backends: BTreeSet<String>,
    /// Their drivers.
    pub drivers: BTreeSet<String>,
    /// Where they stand.
    pub places: BTreeSet<String>,
    /// The most that may leave a backend for it: nothing if only the embedded one holds the key, else the key's ceiling.
    pub exposure: String,
    /// Officers who have approved exactly this, or the ceremony that it is a step of.
    pub approvals: u64,
    /// Whether it is a step of a ceremony.
    pub ceremony: bool,
}

/// Who stands behind a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backing {
    /// Officers who have approved it.
    pub approvals: u64,
    /// Whether it is a step of a ceremony.
    pub ceremony: bool,
}

/// The network of an address that no configured one has.
pub const ELSEWHERE: &str = "elsewhere";
/// The driver that is the daemon itself: nothing leaves it.
pub const EMBEDDED: &str = "software";
const NOTHING: &str = "nothing";

impl Default for Circumstances {
    fn default() -> Self {
        Self {
            network: ELSEWHERE.to_owned(),
            batch: BatchSize::One,
            windows: BTreeSet::new(),
            backends: BTreeSet::new(),
            drivers: BTreeSet::new(),
            places: BTreeSet::new(),
            exposure: NOTHING.to_owned(),
            approvals: 0,
            ceremony: false,
        }
    }
}

impl Circumstances {
    /// As the attributes of the schema's `Request`.
    pub(super) fn attributes(&self) -> Vec<(String, RestrictedExpression)> {
        let text = |word: &str| RestrictedExpression::new_string(word.to_owned());
        let words = |set: &BTreeSet<String>| RestrictedExpression::new_set(set.iter().map(|word| text(word)));
        let attributes = [
            ("network", text(&self.network)),
            ("batch", text(self.batch.as_str())),
            ("windows", words(&self.windows)),
            ("backends", words(&self.backends)),
            ("drivers", words(&self.drivers)),
            ("places", words(&self.places)),
            ("exposure", text(&self.exposure)),
            ("approvals", RestrictedExpression::new_long(i64::try_from(self.approvals).unwrap_or(i64::MAX))),
            ("ceremony", RestrictedExpression::new_bool(self.ceremony)),
        ];
        attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// How many rows a request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchSize {
    /// One.
    One,
    /// Up to a thousand.
    Small,
    /// More.
    Large,
    /// Nobody knows: they come as a stream.
    Stream,
}

impl BatchSize {
    /// Every class.
    pub(super) const ALL: [Self; 4] = [Self::One, Self::Small, Self::Large, Self::Stream];

    /// The class of a number of rows; zero is a stream's.
    pub fn of(rows: u64) -> Self {
        match rows {
            0 => Self::Stream,
            1 => Self::One,
            2..=1000 => Self::Small,
            _ => Self::Large,
        }
    }

    /// The one spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Small => "small",
            Self::Large => "large",
            Self::Stream => "stream",
        }
    }
}

/// A named set of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// As policies call it.
    pub name: String,
    /// What is in it.
    pub addresses: Vec<IpNet>,
}

/// A named time of day, on certain days, by a clock that never changes.
#[derive(Debug, Clone)]
pub struct Window {
    /// As policies call it.
    pub name: String,
    /// On which days it opens.
    pub days: Vec<Weekday>,
    /// When it opens.
    pub from: Time,
    /// When it closes; on the next day, if that is not later: a whole day, if it is the same.
    pub until: Time,
    /// The clock.
    pub zone: TimeZone,
}

impl Window {
    fn is_open(&self, now: Timestamp) -> bool {
        let now = now.to_zoned(self.zone.clone()).datetime();
        let (time, today) = (now.time(), now.date().weekday());
        if self.from < self.until {
            return self.days.contains(&today) && (self.from..self.until).contains(&time);
        }
        let opened_today = self.days.contains(&today) && time >= self.from;
        let opened_yesterday = self.days.contains(&today.previous()) && time < self.until;
        opened_today || opened_yesterday
    }
}

/// What the configuration calls things.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Networks; of several that have an address, the one counts that has it in the smallest range.
    pub networks: Vec<Network>,
    /// Windows of time.
    pub windows: Vec<Window>,
    /// Driver and place of each backend, by its name.
    pub backends: BTreeMap<String, (String, String)>,
}

impl Surroundings {
    /// Every backend, as policies see it.
    pub fn backends(&self) -> Vec<Resource> {
        let seen = |(name, (driver, place)): (&String, &(String, String))| Resource::Backend {
            name: name.clone(),
            driver: driver.clone(),
            place: place.clone(),
        };
        self.backends.iter().map(seen).collect()
    }

    /// The moment at which something is asked from an address, of so many rows.
    pub fn moment(self: &Arc<Self>, source: IpAddr, rows: u64, backing: Backing, now: Timestamp) -> Moment {
        let Backing { approvals, ceremony } = backing;
        let (network, batch) = (self.network(source), BatchSize::of(rows));
        let open = self.windows.iter().enumerate().filter(|(_, window)| window.is_open(now));
        let windows = open.map(|(number, _)| number).collect();
        Moment { surroundings: Arc::clone(self), network, windows, batch, approvals, ceremony }
    }

    /// The circumstances in which something is asked from an address about a resource, of so many rows.
    pub fn circumstances(
        self: &Arc<Self>,
        source: IpAddr,
        rows: u64,
        backing: Backing,
        resource: &Resource,
        now: Timestamp,
    ) -> Circumstances {
        self.moment(source, rows, backing, now).circumstances(resource)
    }

    /// Which network an address is in.
    fn network(&self, source: IpAddr) -> Option<usize> {
        let source = source.to_canonical();
        let range = |network: &Network| {
            let has = network.addresses.iter().filter(|range| range.contains(&source));
            has.map(IpNet::prefix_len).max()
        };
        let ranges = self.networks.iter().enumerate().filter_map(|(number, network)| Some((range(network)?, number)));
        ranges.max_by_key(|(length, _)| *length).map(|(_, number)| number)
    }
}

/// From where, when and how something is asked: all that its circumstances follow from but for the resource. Moments between
/// which no policy can tell are equal.
#[derive(Debug, Clone)]
pub struct Moment {
    surroundings: Arc<Surroundings>,
    network: Option<usize>,
    windows: BTreeSet<usize>,
    batch: BatchSize,
    approvals: u64,
    ceremony: bool,
}

impl Moment {
    fn in_all_else(&self) -> (Option<usize>, &BTreeSet<usize>, BatchSize, u64, bool) {
        (self.network, &self.windows, self.batch, self.approvals, self.ceremony)
    }

    /// The circumstances in which a resource is asked for at this moment.
    pub fn circumstances(&self, resource: &Resource) -> Circumstances {
        let around = self.around();
        let Resource::Key(key) = resource else { return around };
        let known = |name: &String| self.surroundings.backends.get(name);
        let drivers: BTreeSet<String> = key.backends.iter().filter_map(known).map(|known| known.0.clone()).collect();
        let inside = drivers.iter().all(|driver| driver == EMBEDDED);
        Circumstances {
            places: key.backends.iter().filter_map(known).map(|known| known.1.clone()).collect(),
            exposure: if inside { NOTHING.to_owned() } else { key.ceiling.clone() },
            backends: key.backends.clone(),
            drivers,
            ..around
        }
    }

    fn around(&self) -> Circumstances {
        let surroundings = &self.surroundings;
        let network = self.network.and_then(|number| surroundings.networks.get(number));
        let windows = self.windows.iter().filter_map(|number| surroundings.windows.get(*number));
        Circumstances {
            network: network.map_or(ELSEWHERE, |network| &network.name).to_owned(),
            batch: self.batch,
            windows: windows.map(|window| window.name.clone()).collect(),
            approvals: self.approvals,
            ceremony: self.ceremony,
            ..Circumstances::default()
        }
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.surroundings, &other.surroundings) && self.in_all_else() == other.in_all_else()
    }
}

impl Eq for Moment {}

impl Hash for Moment {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.in_all_else().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings() -> Arc<Surroundings> {
        let network =
            |name: &str, range: &str| Network { name: name.to_owned(), addresses: vec![range.parse().unwrap()] };
        let window = |name: &str, from: &str, until: &str| Window {
            name: name.to_owned(),
            days: vec![Weekday::Friday],
            from: from.parse().unwrap(),
            until: until.parse().unwrap(),
            zone: TimeZone::fixed(jiff::tz::offset(8)),
        };
        Arc::new(Surroundings {
            networks: vec![network("city", "10.0.0.0/8"), network("depot", "10.1.0.0/16")],
            windows: vec![window("office", "09:00", "17:00"), window("night", "22:00", "05:00")],
            backends: BTreeMap::new(),
        })
    }

    fn around(source: &str, now: Timestamp) -> Circumstances {
        surroundings().moment(source.parse().unwrap(), 1, Backing::default(), now).around()
    }

    #[test]
    fn the_smallest_network_counts() {
        let of = |address: &str| around(address, Timestamp::UNIX_EPOCH).network;
        assert_eq!((of("10.1.2.3"), of("10.2.2.3")), ("depot".to_owned(), "city".to_owned()));
        assert_eq!((of("::ffff:10.1.2.3"), of("127.0.0.1")), ("depot".to_owned(), ELSEWHERE.to_owned()));
    }

    #[test]
    fn a_window_that_closes_when_it_opens_is_a_whole_day() {
        let open = |from: &str, now: &str| {
            let time: Time = from.parse().unwrap();
            let window = Window { from: time, until: time, ..surroundings().windows[0].clone() };
            window.is_open(now.parse().unwrap())
        };
        // Friday by a clock that is eight hours ahead.
        for (from, opens, closes) in [
            ("00:00", "2026-11-26T16:00:00Z", "2026-11-27T16:00:00Z"),
            ("06:00", "2026-11-26T22:00:00Z", "2026-11-27T22:00:00Z"),
        ] {
            let (opens, closes): (Timestamp, Timestamp) = (opens.parse().unwrap(), closes.parse().unwrap());
            let second = jiff::SignedDuration::from_secs(1);
            for (now, is_open) in [(opens - second, false), (opens, true), (closes - second, true), (closes, false)] {
                assert_eq!(open(from, &now.to_string()), is_open, "{from} at {now}");
            }
        }
    }

    #[test]
    fn windows_open_and_close_by_their_own_clock() {
        let open = |now: &str| {
            let now: Timestamp = now.parse().unwrap();
            around("127.0.0.1", now).windows.into_iter().collect::<Vec<_>>().join(" ")
        };
        // 27 November 2026 is a Friday; the clock is eight hours ahead.
        for (now, windows) in [
            ("2026-11-27T00:59:59Z", ""),
            ("2026-11-27T01:00:00Z", "office"),
            ("2026-11-27T08:59:59Z", "office"),
            ("2026-11-27T09:00:00Z", ""),
            ("2026-11-27T14:00:00Z", "night"),
            ("2026-11-27T20:59:59Z", "night"),
            ("2026-11-27T21:00:00Z", ""),
            ("2026-11-28T01:00:00Z", ""),
            ("2026-11-26T20:00:00Z", ""),
        ] {
            assert_eq!(open(now), windows, "{now}");
        }
    }

    #[test]
    fn moments_are_equal_as_long_as_no_policy_could_tell_them_apart() {
        let (here, office): (_, Timestamp) = (surroundings(), "2026-11-27T01:00:00Z".parse().unwrap());
        let second = jiff::SignedDuration::from_secs(1);
        let moment = |source: &str, rows, approvals, now| {
            here.moment(source.parse().unwrap(), rows, Backing { approvals, ceremony: false }, now)
        };
        let first = moment("10.1.0.1", 2, 0, office);
        assert_eq!(first, moment("10.1.0.9", 1000, 0, office + second));
        for (source, rows, approvals, now) in [
            ("10.2.0.1", 2, 0, office),
            ("10.1.0.1", 1, 0, office),
            ("10.1.0.1", 2, 1, office),
            ("10.1.0.1", 2, 0, office - second),
        ] {
            assert_ne!(first, moment(source, rows, approvals, now));
        }
        let elsewhere = surroundings().moment("10.1.0.1".parse().unwrap(), 2, Backing::default(), office);
        assert_ne!(first, elsewhere, "the configuration was read again");
    }
}
