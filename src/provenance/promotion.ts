import { randomBytes } from 'node:crypto';
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import type { Estimate, Policy, Verdict } from '../contracts/index.ts';
import { canonicalJson, digestOf, sha256 } from '../kit/index.ts';
import { makeChain, type ChainItem } from './chain.ts';
import { provenanceErrors } from './errors.ts';
import { digestEverything } from './folder.ts';
import { keyNotice, type SigningKey } from './key.ts';
import { signModel } from './model-signing.ts';
import { gatePredicateType, type GatePredicate } from './predicate.ts';
import { makeStatement, signStatement, type Subject } from './statement.ts';
import { verifyPromotion } from './verify.ts';
import { verifyGuide } from './verify-guide.ts';

export interface PromotionInput {
  /** Evidence folder to make, e.g. `<store>/evidence/<name>`. Beside the checkpoint: its place is noted relative to this. */
  readonly directory: string;
  readonly checkpoint: { readonly id: string; readonly digest: string; readonly path: string };
  /** What training started from; null for a checkpoint that was not trained here. */
  readonly base: { readonly id: string; readonly digest: string } | null;
  readonly datasets: readonly { readonly name: string; readonly digest: string }[];
  /** `text` is `runText` of the store; its sha256 is the run's digest. */
  readonly runs: readonly { readonly id: string; readonly text: string }[];
  readonly policy: Policy | null;
  readonly verdict: Verdict | null;
  readonly estimates: Readonly<Record<string, Estimate>>;
  /** HTML of the scorecard, if there is one. */
  readonly scorecard: string | null;
  readonly key: SigningKey;
}

export interface PromotionEvidence {
  readonly directory: string;
  /** The signed bundle. */
  readonly bundle: string;
  /** Last link of the chain. */
  readonly head: string;
}

/**
 * Writes the evidence of a promotion: runs, policy, verdict and scorecard as files, a model signature, and one signed
 * in-toto statement over all of them and over every file of the checkpoint. The folder appears whole or not at all, and
 * is verified before it appears. Evidence that is already there for the same promotion is kept.
 * @throws CUPEL_PROVENANCE_NOT_PROMOTED, _EVIDENCE_EXISTS, _EVIDENCE_INCONSISTENT
 */
export async function writePromotion(input: PromotionInput): Promise<PromotionEvidence> {
  const { checkpoint, verdict, key } = input;
  const directory = resolve(input.directory);
  if (verdict !== null && verdict.kind !== 'PROMOTE') {
    throw provenanceErrors.CUPEL_PROVENANCE_NOT_PROMOTED({
      message: `the verdict on ${checkpoint.id} is ${verdict.kind}: ${verdict.headline}`,
      where: directory,
    });
  }
  const predicate = predicateOf(input, directory);
  const evidence = {
    directory,
    bundle: join(directory, 'gate.sigstore.json'),
    head: predicate.chain.at(-1)?.link ?? '',
  };
  if (
    await stat(directory).then(
      () => true,
      () => false,
    )
  ) {
    const { ok, predicate: known } = await verifyPromotion(directory);
    if (ok && canonicalJson(known) === canonicalJson(predicate)) return evidence;
    throw provenanceErrors.CUPEL_PROVENANCE_EVIDENCE_EXISTS({
      message: ok
        ? 'the folder holds the evidence of another promotion'
        : 'the folder holds evidence that does not hold',
      where: directory,
    });
  }
  const temporary = join(dirname(directory), `.${basename(directory)}-${randomBytes(6).toString('hex')}`);
  try {
    for (const [path, content] of await filesOf(input, predicate)) {
      await mkdir(dirname(join(temporary, path)), { recursive: true });
      await writeFile(join(temporary, path), content);
    }
    const [own, model] = [await digestEverything(temporary), await digestEverything(checkpoint.path)];
    const subjects = [...own, ...model.map((file) => ({ ...file, path: `checkpoint/${file.path}` }))];
    const statement = makeStatement(
      gatePredicateType,
      subjects.map(({ path, sha256: digest }): Subject => ({ name: path, digest: { sha256: digest } })),
      predicate,
    );
    await writeFile(join(temporary, 'gate.sigstore.json'), `${canonicalJson(signStatement(statement, key))}\n`);
    await writeFile(join(temporary, 'public-key.pem'), key.publicKeyPem);
    const broken = (await verifyPromotion(temporary)).checks.find(({ ok }) => !ok);
    if (broken !== undefined)
      throw provenanceErrors.CUPEL_PROVENANCE_EVIDENCE_INCONSISTENT({
        message: `${broken.name}: ${broken.detail}`,
        where: directory,
      });
    await rename(temporary, directory);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return evidence;
}

function predicateOf(input: PromotionInput, directory: string): GatePredicate {
  const { checkpoint, base, datasets, policy, verdict, estimates } = input;
  const items: ChainItem[] = [
    ...datasets.map(({ name, digest }) => ({ role: 'dataset' as const, name, digest })),
    ...(base === null ? [] : [{ role: 'base' as const, name: base.id, digest: base.digest }]),
    { role: 'checkpoint', name: checkpoint.id, digest: checkpoint.digest },
    ...sortedRuns(input).map(({ id, text }) => ({ role: 'run' as const, name: id, digest: `sha256:${sha256(text)}` })),
    ...(policy === null ? [] : [{ role: 'policy' as const, name: 'policy', digest: digestOf(policy) }]),
    ...(verdict === null ? [] : [{ role: 'verdict' as const, name: verdict.kind, digest: digestOf(verdict) }]),
  ];
  return {
    version: 1,
    notice: keyNotice,
    checkpoint: {
      id: checkpoint.id,
      digest: checkpoint.digest,
      location: relative(directory, resolve(checkpoint.path)).split(sep).join('/'),
    },
    verdict:
      verdict === null
        ? null
        : {
            kind: verdict.kind,
            algorithm: verdict.algorithm,
            digest: digestOf(verdict),
            policyDigest: verdict.policyDigest,
          },
    estimates,
    chain: makeChain(items),
  };
}

async function filesOf(input: PromotionInput, predicate: GatePredicate): Promise<[string, string][]> {
  const { policy, verdict, scorecard, checkpoint, key } = input;
  return [
    ...sortedRuns(input).map(({ id, text }): [string, string] => [`runs/${id}.jsonl`, text]),
    ...(policy === null ? [] : [['policy.json', `${canonicalJson(policy)}\n`] as [string, string]]),
    ...(verdict === null ? [] : [['verdict.json', `${canonicalJson(verdict)}\n`] as [string, string]]),
    ...(scorecard === null ? [] : [['scorecard.html', scorecard] as [string, string]]),
    ['model.sig', `${canonicalJson(await signModel(checkpoint.path, key))}\n`],
    ['VERIFY.md', verifyGuide(predicate.checkpoint.location)],
  ];
}

function sortedRuns(input: PromotionInput): PromotionInput['runs'] {
  return [...input.runs].sort((a, b) => (a.id < b.id ? -1 : 1));
}
