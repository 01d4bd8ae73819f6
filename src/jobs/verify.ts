import { readFile } from 'node:fs/promises';
import { isCupelError } from '../kit/index.ts';
import { verifyPromotion } from '../provenance/index.ts';
import { jobErrors } from './errors.ts';
import type { Project } from './project.ts';

export interface VerifyResult {
  readonly ok: boolean;
  readonly checkpoint: string;
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly detail: string }[];
}

/**
 * Checks that a checkpoint is what was promoted: the channel's history and every checkpoint it names, then the signed
 * evidence against the project's own key.
 * @param id of a checkpoint that was promoted; default: the current one
 * @throws CUPEL_NOTHING_PROMOTED
 */
export async function verifyPromoted(project: Project, id?: string): Promise<VerifyResult> {
  const { channel } = project.config;
  const entries = await project.checkpoints.history(channel);
  const current =
    id === undefined
      ? entries.at(-1)
      : entries.findLast(({ action, checkpoint }) => action === 'promote' && checkpoint.id === id);
  if (current === undefined) {
    throw jobErrors.CUPEL_NOTHING_PROMOTED({
      message: entries.length === 0 ? `channel "${channel}" is empty` : `channel "${channel}" never held "${id ?? ''}"`,
      where: project.config.store,
    });
  }
  const history = await attempt('history', async () => {
    await project.checkpoints.verify(channel);
    return `${entries.length} entries of channel "${channel}" hold`;
  });
  const checks = [history];
  if (current.evidence === null) {
    checks.push({
      name: 'evidence',
      ok: false,
      detail: `${current.checkpoint.id} was adopted without a verdict: there is no evidence`,
    });
  } else {
    const publicKeyPem = await readFile(project.at('keys', 'signing-key.pub.pem'), 'utf8').catch(() => null);
    const result = await verifyPromotion(project.at(current.evidence), {
      checkpoint: project.checkpoints.locate(current),
      ...(publicKeyPem === null ? {} : { publicKeyPem }),
    });
    checks.push({
      name: 'expected key',
      ok: publicKeyPem !== null,
      detail:
        publicKeyPem === null
          ? 'keys/signing-key.pub.pem of the project could not be read: the key in the evidence proves nothing by itself'
          : 'the key of this project',
    });
    checks.push(...result.checks);
    const digest = result.predicate?.checkpoint.digest ?? 'nothing';
    checks.push({
      name: 'promoted checkpoint',
      ok: digest === current.checkpoint.digest,
      detail: `${current.checkpoint.id} ${current.checkpoint.digest}`,
    });
  }
  return { ok: checks.every(({ ok }) => ok), checkpoint: current.checkpoint.id, checks };
}

async function attempt(name: string, work: () => Promise<string>): Promise<VerifyResult['checks'][number]> {
  try {
    return { name, ok: true, detail: await work() };
  } catch (error) {
    if (!isCupelError(error)) throw error;
    return { name, ok: false, detail: error.message };
  }
}
