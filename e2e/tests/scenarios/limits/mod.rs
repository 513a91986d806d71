//! What the API server takes, Rust reads, and what the API server takes of a CXIDriver, the programs on the nodes take too. Values
//! at every limit and beyond it are put at every place of our CRDs, and sent to a real API server: only it knows what a schema lets in.

mod places;
mod programs;
mod stored;
mod values;

use std::{collections::BTreeSet, env, time::Instant};

use anyhow::{Context, Result, bail, ensure};
use cxi_api::{CXIDevice, CXIDriver, CXINode, CXIPreflight, crds::crds};
use cxi_e2e::{
    client::client,
    planes::{Plane, Wanted},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Client, Resource,
    api::{Api, ApiResource, DynamicObject, PostParams},
    core::Request,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use places::Place;
use values::Chance;

/// Says where random values begin.
const SEED_ENV: &str = "CXI_E2E_SEED";

/// How many objects of each half have made-up values, besides those with one value that is always tried.
const MADE_UP: usize = 150;

/// How many requests are under way at once.
const AT_ONCE: usize = 8;

/// Name of the examples in the cluster.
const NAME: &str = "every-field";

/// Fields of a CXIPreflight that its example has not: `nodeSelector` and `node` exclude each other, and `source` is that of a CXIDriver,
/// whose example has all of it.
const ELSEWHERE: [&str; 2] = [".spec.nodeSelector", ".spec.source."];

/// What is changed of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Spec,
    Status,
}

/// One of our kinds, and what half of it is tried.
struct Kind {
    resource: ApiResource,
    half: Half,
    /// Complete, and accepted.
    example: Value,
    places: Vec<Place>,
    /// Whether Rust reads an answer, and what it makes of it.
    read: fn(&str) -> Result<Value>,
}

/// An object that is sent.
struct Change {
    object: Value,
    /// What was put where.
    about: String,
}

/// What became of one.
enum Verdict {
    Refused,
    Read,
    Unreadable(String),
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_takes_rust_reads() -> Result<()> {
    let mut plane = Plane::take(Wanted::ORDINARY).await?;
    let client = client(plane.kubeconfig()).await?;
    let seed = seed()?;
    let mut chance = Chance(seed);
    let mut unreadable = Vec::new();
    for kind in kinds(&client).await? {
        let name = format!("{} {}", kind.resource.kind, kind.half.field());
        let mut changes = kind.with_one_change(&mut chance)?;
        for _ in 0..MADE_UP {
            changes.push(kind.with_made_up_changes(&mut chance)?);
        }
        let begin = Instant::now();
        let try_one = async |change: &Change| {
            let verdict = kind.verdict(&client, &change.object).await;
            verdict.with_context(|| format!("{name}: {}", change.about))
        };
        let verdicts: Vec<_> = stream::iter(&changes).map(try_one).buffered(AT_ONCE).try_collect().await?;
        let (mut refused, mut read) = (0, 0);
        for (change, verdict) in changes.iter().zip(verdicts) {
            match verdict {
                Verdict::Refused => refused += 1,
                Verdict::Read => read += 1,
                Verdict::Unreadable(why) => unreadable.push(format!("{name}: {}: {why}", change.about)),
            }
        }
        eprintln!("{name}: {refused} refused, {read} accepted and read, in {:.0?}", begin.elapsed());
        // Otherwise nothing was tried.
        ensure!(refused > 100 && read > 100, "{name}: {refused} refused, {read} accepted and read");
    }
    ensure!(
        unreadable.is_empty(),
        "{SEED_ENV}={seed}: {} objects are accepted and of no use:\n{}",
        unreadable.len(),
        unreadable.join("\n")
    );
    plane.give_back().await
}

fn seed() -> Result<u64> {
    let seed = match env::var(SEED_ENV) {
        Ok(text) => text.parse().with_context(|| format!("{SEED_ENV}={text}"))?,
        Err(_) => u64::try_from(jiff::Timestamp::now().as_millisecond())?,
    };
    eprintln!("{SEED_ENV}={seed}");
    Ok(seed.max(1))
}

/// The kinds, with the examples in the cluster, so that their status can be changed.
async fn kinds(client: &Client) -> Result<Vec<Kind>> {
    let examples: Vec<Value> = serde_saphyr::from_multiple(include_str!("../fixtures/every-field.yaml"))?;
    let [driver, node, device, preflight] = &examples[..] else { bail!("there are {} examples", examples.len()) };
    Ok(vec![
        Kind::new::<CXIDriver>(client, driver, Half::Status, reads::<CXIDriver>).await?,
        Kind::new::<CXIDriver>(client, driver, Half::Spec, reads_and_runs).await?,
        Kind::new::<CXINode>(client, node, Half::Status, reads::<CXINode>).await?,
        Kind::new::<CXIDevice>(client, device, Half::Status, reads::<CXIDevice>).await?,
        Kind::new::<CXIPreflight>(client, preflight, Half::Status, reads::<CXIPreflight>).await?,
        Kind::new::<CXIPreflight>(client, preflight, Half::Spec, reads::<CXIPreflight>).await?,
    ])
}

fn reads<K: DeserializeOwned + Serialize>(answer: &str) -> Result<Value> {
    Ok(serde_json::to_value(serde_json::from_str::<K>(answer)?)?)
}

fn reads_and_runs(answer: &str) -> Result<Value> {
    let driver: CXIDriver = serde_json::from_str(answer)?;
    programs::take(&driver.spec)?;
    Ok(serde_json::to_value(driver)?)
}

impl Kind {
    async fn new<K>(client: &Client, example: &Value, half: Half, read: fn(&str) -> Result<Value>) -> Result<Self>
    where
        K: Resource<DynamicType = ()>,
    {
        let resource = ApiResource::erase::<K>(&());
        let crds = crds();
        let crd = crds.iter().find(|crd| crd.spec.names.kind == resource.kind).context("the kind has no CRD")?;
        let schema = serde_json::to_value(&crd.spec.versions[0].schema)?;
        let field = half.field();
        let mut places = Place::all(field, &schema["openAPIV3Schema"]["properties"][field]);
        places.retain(|place| {
            let path = place.path();
            resource.kind != "CXIPreflight" || !ELSEWHERE.iter().any(|field| path.starts_with(field))
        });
        places::ensure_complete(example, &places)?;
        let mut example = example.clone();
        match half {
            Half::Spec => example["metadata"]["name"] = "another".into(),
            Half::Status => {
                let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
                let there = api.create(&PostParams::default(), &serde_json::from_value(example.clone())?).await?;
                example["metadata"] = serde_json::to_value(there.metadata)?;
            }
        }
        let kind = Self { resource, half, example, places, read };
        kind.send(client, &kind.example).await?.context("the example is refused")?;
        Ok(kind)
    }

    /// What the API server would make of an object, without keeping it; the inner error is its refusal.
    async fn send(&self, client: &Client, object: &Value) -> Result<Result<String, kube::Error>> {
        let request = Request::new(DynamicObject::url_path(&self.resource, None));
        let (params, body) = (PostParams { dry_run: true, ..PostParams::default() }, serde_json::to_vec(object)?);
        let request = match self.half {
            Half::Spec => request.create(&params, body),
            Half::Status => request.replace_subresource("status", NAME, &params, body),
        };
        match client.request_text(request?).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => Ok(Err(kube::Error::Api(status))),
            answer => Ok(Ok(answer?)),
        }
    }

    async fn verdict(&self, client: &Client, object: &Value) -> Result<Verdict> {
        let Ok(answer) = self.send(client, object).await? else { return Ok(Verdict::Refused) };
        let read = match (self.read)(&answer) {
            Ok(read) => read,
            Err(error) => return Ok(Verdict::Unreadable(format!("{error:#}"))),
        };
        // A status is written by those who read it: with what else it says, it goes back.
        if self.half == Half::Status
            && let Err(refusal) = self.send(client, &read).await?
        {
            return Ok(Verdict::Unreadable(format!("as it was read it cannot be written: {refusal}")));
        }
        Ok(Verdict::Read)
    }

    /// Objects that differ from the example in one place.
    fn with_one_change(&self, chance: &mut Chance) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut tried = BTreeSet::new();
        for place in &self.places {
            let original = place.get(&mut self.example.clone())?.clone();
            let known = values::limits(&place.schema).is_some_and(|limits| !tried.insert(limits));
            for value in values::some(&place.schema, &original, known, chance) {
                changes.push(self.change(&[(place, Some(value))]));
            }
            changes.push(self.change(&[(place, None)]));
        }
        Ok(changes)
    }

    /// An object that differs from it in up to three places.
    fn with_made_up_changes(&self, chance: &mut Chance) -> Result<Change> {
        let mut what = Vec::new();
        for _ in 0..=chance.below(3) {
            let place = &self.places[chance.below(self.places.len())];
            let original = place.get(&mut self.example.clone())?.clone();
            what.push((place, Some(values::any(&place.schema, &original, chance))));
        }
        Ok(self.change(&what))
    }

    /// The example with other values, or none, where their places still exist.
    fn change(&self, what: &[(&Place, Option<Value>)]) -> Change {
        let mut object = self.example.clone();
        let mut about = Vec::new();
        for (place, value) in what {
            match value {
                Some(value) => {
                    if let Ok(there) = place.get(&mut object) {
                        there.clone_from(value);
                        about.push(format!("{} = {}", place.path(), short(value)));
                    }
                }
                None => {
                    if place.remove(&mut object) {
                        about.push(format!("without {}", place.path()));
                    }
                }
            }
        }
        Change { object, about: about.join(" and ") }
    }
}

impl Half {
    fn field(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Status => "status",
        }
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}
