import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TrainLogs } from '../../contracts/index.ts';
import { writeFileAtomic } from '../../kit/index.ts';
import { type LogLine, type RunDescription, scalarsOf, type TrainingLog } from './training-log.ts';

/**
 * Weights & Biases has no documented file format: its offline runs are binary files of its own package. So what is
 * written is a plain file, `run.jsonl` (first line: project, name, configuration; then one object a step), and a short
 * script that hands it to the package by its documented calls (`wandb.init`, `run.log`, `run.finish`):
 * `python import_run.py`. Nothing is sent from here; with WANDB_MODE=offline nothing is sent by the script either.
 */
export async function openWandbLog(
  folder: string,
  { project }: NonNullable<TrainLogs['wandb']>,
  run: RunDescription,
  past: readonly LogLine[],
): Promise<TrainingLog> {
  const file = join(folder, 'run.jsonl');
  const head = JSON.stringify({ project, name: run.name, config: run.parameters });
  await writeFileAtomic(file, [head, ...past.map(lineOf), ''].join('\n'));
  await writeFileAtomic(join(folder, 'import_run.py'), script);
  return {
    write: (line) => appendFile(file, `${lineOf(line)}\n`),
    close: () => Promise.resolve(),
  };
}

function lineOf(line: LogLine): string {
  const values = Object.fromEntries(scalarsOf(line));
  return JSON.stringify({ step: line.step, time: Date.parse(line.time) / 1000, values });
}

const script = `"""Hands run.jsonl beside this file to Weights & Biases: pip install wandb, then python import_run.py."""
import json
import pathlib

import wandb

lines = pathlib.Path(__file__).with_name("run.jsonl").read_text(encoding="utf-8").splitlines()
head, *steps = (json.loads(line) for line in lines if line)
run = wandb.init(project=head["project"], name=head["name"], config=head["config"])
for step in steps:
    run.log({**step["values"], "time": step["time"]}, step=step["step"])
run.finish()
`;
