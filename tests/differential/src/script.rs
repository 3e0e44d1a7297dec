//! The script: steps in their order, each a request in some versions.
use crate::leaves::Leaves;
use crate::side::Side;
use std::ops::RangeInclusive;
use wire::{ApiKey, Request, RequestMessage, ResponseBody};

type Make = Box<dyn Fn(&Side, i16) -> Request>;
type Learn = Box<dyn Fn(&mut Side, &ResponseBody)>;
/// Whether an answer is one of a state that passes.
pub(crate) type Again = fn(&Leaves) -> bool;
type Bytes = Box<dyn Fn(&Side) -> Vec<u8>>;

/// Codes that go away by themselves after a topic, a group or a coordinator was made.
const PASSING: [&str; 6] = ["5", "14", "15", "16", "29", "78"];

/// What a step does.
pub(crate) enum Action {
    /// Asks and compares the answers.
    Ask { make: Make, again: Option<Again> },
    /// Sends, and leaves the answer for the step that finishes it.
    Begin { make: Make },
    /// Compares the answers to the step of that name.
    Finish { begun: &'static str },
    /// Bytes that are no request of our codec; the answers are compared as bytes.
    Raw { bytes: Bytes },
    /// A good header and bytes behind it that are perhaps no request.
    Body { bytes: Vec<u8> },
}

/// One step.
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) api: ApiKey,
    pub(crate) versions: RangeInclusive<i16>,
    pub(crate) action: Action,
    pub(crate) learn: Option<Learn>,
    /// Made for what is learned from it; its answers are not compared.
    pub(crate) silent: bool,
}

/// The steps so far.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
}

/// The versions that we have code for.
pub(crate) fn all(api: ApiKey) -> RangeInclusive<i16> {
    api.api().min..=api.api().max
}

/// The newest version that we have code for.
pub(crate) fn newest(api: ApiKey) -> RangeInclusive<i16> {
    api.api().max..=api.api().max
}

impl Script {
    /// A request in every version.
    pub(crate) fn each<R: RequestMessage>(
        &mut self,
        name: &str,
        make: impl Fn(&Side, i16) -> R + 'static,
    ) -> &mut Step {
        self.over(name, all(R::KEY), make)
    }

    /// A request in the newest version alone.
    pub(crate) fn once<R: RequestMessage>(
        &mut self,
        name: &str,
        make: impl Fn(&Side, i16) -> R + 'static,
    ) -> &mut Step {
        self.over(name, newest(R::KEY), make)
    }

    /// A request in these versions.
    pub(crate) fn over<R: RequestMessage>(
        &mut self,
        name: &str,
        versions: RangeInclusive<i16>,
        make: impl Fn(&Side, i16) -> R + 'static,
    ) -> &mut Step {
        let make = Box::new(move |side: &Side, version| make(side, version).into());
        self.step(name, R::KEY, versions, Action::Ask { make, again: None })
    }

    /// Sends a request of the newest version whose answer [`Script::finish`] waits for.
    pub(crate) fn begin<R: RequestMessage>(
        &mut self,
        name: &str,
        make: impl Fn(&Side, i16) -> R + 'static,
    ) -> &mut Step {
        let make = Box::new(move |side: &Side, version| make(side, version).into());
        self.step(name, R::KEY, newest(R::KEY), Action::Begin { make })
    }

    /// The answers to what `begun` sent.
    pub(crate) fn finish<R: RequestMessage>(&mut self, begun: &'static str) -> &mut Step {
        self.step(&format!("{begun}, answer"), R::KEY, newest(R::KEY), Action::Finish { begun })
    }

    /// Bytes as they are, with their length in front.
    pub(crate) fn raw(&mut self, name: &str, bytes: impl Fn(&Side) -> Vec<u8> + 'static) -> &mut Step {
        let bytes = Box::new(bytes);
        self.step(name, ApiKey::ApiVersions, 0..=0, Action::Raw { bytes })
    }

    /// A good header and any bytes behind it, in every version of an API.
    pub(crate) fn body(&mut self, name: &str, api: ApiKey, bytes: &[u8]) -> &mut Step {
        self.step(name, api, all(api), Action::Body { bytes: bytes.to_vec() })
    }

    fn step(&mut self, name: &str, api: ApiKey, versions: RangeInclusive<i16>, action: Action) -> &mut Step {
        let at = self.steps.len();
        self.steps.push(Step { name: name.to_owned(), api, versions, action, learn: None, silent: false });
        &mut self.steps[at]
    }
}

impl Step {
    /// Keeps something of each answer.
    pub(crate) fn learn(&mut self, learn: impl Fn(&mut Side, &ResponseBody) + 'static) -> &mut Step {
        self.learn = Some(Box::new(learn));
        self
    }

    /// Asks again while the answer says to retry: what was begun before takes its time.
    pub(crate) fn settled(&mut self) -> &mut Step {
        self.again(|leaves| {
            let code = |(path, _): &(&String, &String)| path.ends_with("error_code");
            leaves.iter().filter(code).any(|(_, value)| PASSING.contains(&value.as_str()))
        })
    }

    /// Asks again while `again` holds for the answer.
    pub(crate) fn again(&mut self, while_so: Again) -> &mut Step {
        if let Action::Ask { again, .. } = &mut self.action {
            *again = Some(while_so);
        }
        self
    }

    /// Does not compare.
    pub(crate) fn silent(&mut self) -> &mut Step {
        self.silent = true;
        self
    }
}
