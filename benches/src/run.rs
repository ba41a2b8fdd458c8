//! Measures group by group: within a group every job has its turn in every round, so that what is compared was
//! measured side by side.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::jobs::{Group, groups};
use crate::results::{Machine, Results};
use crate::stage::Stage;
use crate::{Result, report, targets};

/// What is measured.
#[derive(Debug, Clone, Args)]
pub(crate) struct Plan {
    /// Less of everything, in a few minutes.
    #[arg(long)]
    quick: bool,
    /// Only jobs whose id contains one of these; the floor is always measured with the others.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How often everything is measured.
    #[arg(long)]
    rounds: Option<usize>,
    /// The folder with the programs that `ci/bench` has built.
    #[arg(long)]
    programs: PathBuf,
    /// Where the results go; none are written without it.
    #[arg(long)]
    out: Option<PathBuf>,
    /// A text that shows the clients, between `<!-- bench -->` marks.
    #[arg(long)]
    readme: Option<PathBuf>,
}

pub(crate) fn run(plan: &Plan) -> Result<()> {
    let mut stage = Stage::set(&plan.programs)?;
    let mut results = Results { machine: Machine::here(), quick: plan.quick, ..Results::default() };
    for group in chosen(plan) {
        eprintln!("== {}", group.title);
        measure(&group, plan.quick, &mut stage, &mut results);
    }
    results.targets = targets::judge(&results);
    print!("{}", report::markdown(&results));
    if let Some(folder) = &plan.out {
        fs::create_dir_all(folder)?;
        results.save(&folder.join("latest.json"))?;
        report::write(&results, folder)?;
    }
    if let Some(readme) = &plan.readme {
        report::show(&results, readme)?;
    }
    Ok(())
}

fn chosen(plan: &Plan) -> Vec<Group> {
    let mut groups = groups(plan.quick);
    for group in &mut groups {
        group.rounds = plan.rounds.unwrap_or(group.rounds);
        let wanted = |id: &str| {
            plan.only.is_empty() || plan.only.iter().any(|word| id.contains(word.as_str()))
        };
        if group.jobs.iter().any(|job| wanted(&job.id())) {
            group.jobs.retain(|job| wanted(&job.id()) || job.id().starts_with("client/floor/"));
        } else {
            group.jobs.clear();
        }
    }
    groups.retain(|group| !group.jobs.is_empty());
    groups
}

fn measure(group: &Group, quick: bool, stage: &mut Stage, results: &mut Results) {
    results.rounds = results.rounds.max(group.rounds);
    let mut failed = Vec::new();
    for round in 0..group.rounds {
        for turn in 0..group.jobs.len() {
            // Nobody is always the first.
            let job = group.jobs[(turn + round) % group.jobs.len()];
            if failed.contains(&job.id()) {
                continue;
            }
            match job.run(stage, quick) {
                Ok(readings) => {
                    for (id, unit, value) in readings {
                        eprintln!("{round}  {id:<40} {value:>10.3} {unit}");
                        results.push(&id, unit, value);
                    }
                }
                Err(error) => {
                    eprintln!("{round}  {}: {error}", job.id());
                    failed.push(job.id());
                    results.missing.push((job.id(), error.to_string()));
                }
            }
        }
    }
}
