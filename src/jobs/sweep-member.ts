import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Run } from '../contracts/index.ts';
import { readJson, writeFileAtomic } from '../kit/index.ts';
import { checkpointDigest, type CheckpointInfo, type Project } from './project.ts';
import type { RecipeInputs } from './recipe-inputs.ts';
import { resultKey } from './result-key.ts';
import type { SweepCandidate } from './sweep-plan.ts';
import { type RecipeOptions, trainInto } from './train-into.ts';
import { clearFinished } from './train-work.ts';

/** One training of a sweep, and what the validation suite says of it. */
export interface SweepMember {
  readonly seed: number;
  readonly info: CheckpointInfo;
  readonly run: Run;
}

interface MemberRecord {
  readonly key: string;
  readonly digest: string;
  readonly info: CheckpointInfo;
}

/** Trains a candidate with one seed, or finds it finished. @param place folder of this member */
export async function trainMember(
  project: Project,
  { recipe, plan }: SweepCandidate,
  seed: number,
  inputs: RecipeInputs,
  place: string,
  options: Omit<RecipeOptions, 'onPlan'>,
): Promise<CheckpointInfo> {
  const own = { ...recipe, seed };
  const key = await resultKey(own, inputs, { ...plan, seed });
  const file = join(place, 'member.json');
  const destination = { folder: join(place, 'checkpoint'), work: join(place, 'work') };
  if (existsSync(file)) {
    const known = await readJson<MemberRecord | null>(file);
    if (known?.key === key && (await checkpointDigest(known.info).catch(() => null)) === known.digest) {
      project.progress.note('  kept: it was trained before');
      return known.info;
    }
  }
  const { info, trained } = await trainInto(project, own, inputs, destination, { ...options, onPlan: () => {} });
  const record: MemberRecord = { key, digest: trained.digest, info };
  await writeFileAtomic(file, `${JSON.stringify(record, null, 2)}\n`);
  await clearFinished(destination.work);
  return info;
}
