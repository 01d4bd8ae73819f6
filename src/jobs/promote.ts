import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { PromotionEntry, TrainingRecord } from '../contracts/index.ts';
import { digestOf, readJson } from '../kit/index.ts';
import { ensureKey, writePromotion } from '../provenance/index.ts';
import { runText } from '../store/index.ts';
import { jobErrors } from './errors.ts';
import { collectRuns, judgeCandidate, policyOf, readVerdict, verdictFile } from './gate.ts';
import { checkpointDigest, type CheckpointInfo, findCheckpoint, type Project, wholeCheckpoint } from './project.ts';
import { metricsOf, writeReports } from './report.ts';
import { readRows } from './training-data.ts';

/**
 * Makes a candidate current: copies its folder into the store, writes and signs the evidence, appends to the channel's
 * history. Repeating it changes nothing.
 * @throws CUPEL_PROMOTE_NOT_ALLOWED, CUPEL_PROMOTE_STALE, and what the rooms throw
 */
export async function promoteCandidate(project: Project, candidate: string): Promise<PromotionEntry> {
  const { channel } = project.config;
  const info = await findCheckpoint(project, candidate);
  const digest = await checkpointDigest(info);
  const verdict = await readVerdict(project, candidate);
  const verdictDigest = digestOf(verdict);
  const current = await project.checkpoints.current(channel);
  if (current?.verdictDigest === verdictDigest && current.checkpoint.digest === digest) return current;
  if (verdict.kind !== 'PROMOTE') {
    throw jobErrors.CUPEL_PROMOTE_NOT_ALLOWED({
      message: `the verdict on "${candidate}" is ${verdict.kind}: ${verdict.headline}`,
      where: verdictFile(project, info.id),
    });
  }
  const stale =
    verdict.candidate.digest !== digest
      ? `the verdict is on ${verdict.candidate.digest}, the folder holds ${digest}`
      : (verdict.baseline?.digest ?? null) !== (current?.checkpoint.digest ?? null)
        ? `the verdict compares with ${verdict.baseline?.checkpoint ?? 'nothing'}, current is ${current?.checkpoint.id ?? 'nothing'}`
        : null;
  if (stale !== null) throw jobErrors.CUPEL_PROMOTE_STALE({ message: stale, where: verdictFile(project, info.id) });

  // Deciding is pure: a verdict that the rows and the policy do not give again is not one.
  if (digestOf(await judgeCandidate(project, candidate)) !== verdictDigest) {
    throw jobErrors.CUPEL_PROMOTE_STALE({
      message: `rows and policy no longer give the verdict that is on file for "${info.id}"`,
      where: verdictFile(project, info.id),
    });
  }

  wholeCheckpoint(info);
  const { path } = await project.checkpoints.add(info.path);
  const record = await trainingRecord(info.path);
  if (record !== null && info.training !== null) await checkData(project, info.training, record);
  const [scorecard] = (await writeReports(project, [candidate])).filter((file) => file.endsWith('.html'));
  const runs = await Promise.all(
    [...verdict.candidate.runs, ...(verdict.baseline?.runs ?? [])].map((id) => project.runs.read(id)),
  );
  const own = await collectRuns(project, info, digest, true);
  const name = `${channel}-${hex(digest)}-${hex(verdictDigest)}`;
  await writePromotion({
    directory: project.at('evidence', name),
    checkpoint: { id: info.id, digest, path },
    base: record === null ? null : { id: info.training?.base ?? 'base', digest: record.parent },
    datasets:
      record === null
        ? []
        : [
            {
              // Ids, or files of this machine, whose folders are nobody's business.
              name:
                [...(info.training?.data ?? []), ...(info.training?.replay ?? [])]
                  .map((dataset) => basename(dataset))
                  .join(' + ') || 'training data',
              digest: record.dataDigest,
            },
          ],
    runs: runs.map((run) => ({ id: run.identity.id, text: runText(run) })),
    policy: await policyOf(project),
    verdict,
    estimates: metricsOf(own.runs),
    scorecard: scorecard === undefined ? null : await readFile(scorecard, 'utf8'),
    key: await ensureKey(project.at('keys')),
  });
  return project.checkpoints.promote(channel, {
    action: 'promote',
    checkpoint: { id: info.id, digest, path },
    verdictDigest,
    evidence: `evidence/${name}`,
  });
}

/**
 * Makes a checkpoint the first of its channel, without a verdict: there is nothing to compare it with. Where it is the
 * first already, nothing changes, also after later promotions.
 * @returns what is current
 */
export async function adoptBaseline(project: Project, id: string): Promise<PromotionEntry> {
  const info = await findCheckpoint(project, id);
  const entries = await project.checkpoints.history(project.config.channel);
  const [first, current] = [entries.at(0), entries.at(-1)];
  const digest = await checkpointDigest(info);
  if (first !== undefined && current !== undefined) {
    if (first.checkpoint.digest === digest) return current;
    throw jobErrors.CUPEL_PROMOTE_NOT_ALLOWED({
      message: `channel "${project.config.channel}" began with ${first.checkpoint.id}; "${id}" would need a verdict`,
      where: project.config.store,
      remedy: `Run: cupel gate ${id}`,
    });
  }
  wholeCheckpoint(info);
  const { path } = await project.checkpoints.add(info.path);
  return project.checkpoints.promote(project.config.channel, {
    action: 'promote',
    checkpoint: { id: info.id, digest, path },
    verdictDigest: null,
    evidence: null,
  });
}

/** Makes the previous checkpoint current again. @throws CUPEL_NOTHING_PROMOTED */
export async function rollBack(project: Project): Promise<PromotionEntry> {
  const { channel } = project.config;
  if ((await project.checkpoints.history(channel)).length < 2) {
    throw jobErrors.CUPEL_NOTHING_PROMOTED({
      message: `channel "${channel}" has no earlier checkpoint to go back to`,
      where: project.config.store,
    });
  }
  return project.checkpoints.rollback(channel);
}

/** What is promoted is one whole checkpoint that can be handed on. @throws CUPEL_CHECKPOINT_ADAPTER */
/** Holds the record's data digest against the data as it now lies there. @throws CUPEL_PROMOTE_STALE */
async function checkData(
  project: Project,
  training: NonNullable<CheckpointInfo['training']>,
  record: TrainingRecord,
): Promise<void> {
  const [data, replay] = await Promise.all([readRows(project, training.data), readRows(project, training.replay)]);
  const digest = digestOf({ data, replay });
  if (digest === record.dataDigest) return;
  throw jobErrors.CUPEL_PROMOTE_STALE({
    message: `training data ${[...training.data, ...training.replay].join(', ')} now has the digest ${digest}, the checkpoint was trained on ${record.dataDigest}`,
    where: project.config.file,
    remedy: 'Restore the data, or train again.',
  });
}

function hex(digest: string): string {
  return digest.replace('sha256:', '').slice(0, 12);
}

/** `cupel_run.json` of a checkpoint that was trained here; null where there is none. */
async function trainingRecord(folder: string): Promise<TrainingRecord | null> {
  const file = join(folder, 'cupel_run.json');
  return existsSync(file) ? readJson<TrainingRecord>(file) : null;
}
