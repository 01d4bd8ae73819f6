import { lstat, readFile } from 'node:fs/promises';
import { basename, isAbsolute, join, resolve } from 'node:path';
import type { Policy, RunIdentity, TrainingRecord, Verdict } from '../contracts/index.ts';
import { canonicalJson, digestFolder, digestOf, runId, sha256 } from '../kit/index.ts';
import { makeChain, type ChainItem, type ChainLink } from './chain.ts';
import { findDifference } from './folder.ts';
import { verifyModel } from './model-signing.ts';
import { gatePredicateType, type GatePredicate } from './predicate.ts';
import { keyHint, verifyBundle, type Statement } from './statement.ts';

export interface Check {
  readonly name:
    | 'signature'
    | 'statement'
    | 'evidence files'
    | 'checkpoint files'
    | 'checkpoint digest'
    | 'model signature'
    | 'policy'
    | 'verdict'
    | 'runs'
    | 'training'
    | 'chain';
  readonly ok: boolean;
  /** One sentence. */
  readonly detail: string;
}

export interface PromotionCheck {
  readonly ok: boolean;
  readonly checks: readonly Check[];
  /** Only if the signature holds. */
  readonly predicate: GatePredicate | null;
}

/** What the signature covers by itself rather than as a subject. */
const unlisted = ['gate.sigstore.json', 'public-key.pem'];
const notRead = 'not checked, because the files of the checkpoint do not hold';
const largestBundle = 64 * 2 ** 20;

/**
 * Checks the evidence of a promotion from its files alone: signature, every file of evidence and checkpoint, and that
 * dataset, base, checkpoint, runs, policy and verdict name one another's digests. Never throws for what is wrong with
 * the evidence: that is a check that is not ok.
 * @param options.publicKeyPem the key that is expected. Without it the one in the folder is used, and a forger who
 *   replaced everything, the key too, is not found out.
 * @param options.checkpoint where the checkpoint folder is, if not where the statement says.
 */
export async function verifyPromotion(
  directory: string,
  options: { readonly publicKeyPem?: string; readonly checkpoint?: string } = {},
): Promise<PromotionCheck> {
  const checks: Check[] = [];
  const add = async (name: Check['name'], work: () => Promise<string>): Promise<void> => {
    try {
      checks.push({ name, ok: true, detail: await work() });
    } catch (cause) {
      checks.push({ name, ok: false, detail: (cause as Error).message });
    }
  };
  let statement: Statement<GatePredicate> | null = null;
  await add('signature', async () => {
    statement = await readStatement(directory, options.publicKeyPem);
    return options.publicKeyPem === undefined
      ? 'holds for the public key in this folder, which proves no identity'
      : 'holds for the expected public key';
  });
  const signed = statement as Statement<GatePredicate> | null;
  if (signed === null) return { ok: false, checks, predicate: null };
  let predicate: GatePredicate | null = null;
  await add('statement', async () => {
    predicate = checkPredicate(signed);
    return gatePredicateType;
  });
  if (predicate === null) return { ok: false, checks, predicate: null };
  await checkContent(add, directory, signed, predicate, options.checkpoint);
  return { ok: checks.every(({ ok }) => ok), checks, predicate };
}

type Add = (name: Check['name'], work: () => Promise<string>) => Promise<void>;

async function checkContent(
  add: Add,
  directory: string,
  { subject }: Statement,
  predicate: GatePredicate,
  place: string | undefined,
): Promise<void> {
  const folder = place ?? resolve(directory, predicate.checkpoint.location);
  const { id, digest } = predicate.checkpoint;
  const prefix = 'checkpoint/';
  const expected = new Map(
    subject.filter(({ name }) => !name.startsWith(prefix)).map((item) => [item.name, item.digest.sha256]),
  );
  const model = new Map(
    subject
      .filter(({ name }) => name.startsWith(prefix))
      .map((item) => [item.name.slice(prefix.length), item.digest.sha256]),
  );

  let filesHold = false;
  await add('evidence files', async () => {
    demand(new Set(subject.map(({ name }) => name)).size === subject.length, 'a file is named twice');
    const difference = await findDifference(directory, expected, unlisted);
    demand(difference === null, difference ?? '');
    return `${expected.size} files hold`;
  });
  await add('checkpoint files', async () => {
    demand(model.size > 0, 'the statement names no file of the checkpoint');
    const difference = await findDifference(folder, model, []);
    demand(difference === null, difference ?? '');
    filesHold = true;
    return `${model.size} files hold`;
  });
  await add('checkpoint digest', async () => {
    demand(filesHold, notRead);
    const seen = await digestFolder(folder);
    demand(seen === digest, `the files of ${id} give ${seen}, the statement says ${digest}`);
    return digest;
  });
  await add('model signature', async () => {
    demand(filesHold, notRead);
    const { ok, reason } = await verifyModel(
      folder,
      join(directory, 'model.sig'),
      await readFile(join(directory, 'public-key.pem'), 'utf8'),
    );
    demand(ok, reason);
    return reason;
  });
  const policy = expected.has('policy.json') ? await readJson<Policy>(directory, 'policy.json') : null;
  const verdict = expected.has('verdict.json') ? await readJson<Verdict>(directory, 'verdict.json') : null;
  const runs = linksOf(predicate, 'run');
  await add('policy', async () => checkDigest(policy, linksOf(predicate, 'policy'), 'policy'));
  await add('verdict', async () => checkVerdict(verdict, policy, predicate, runs));
  await add('runs', async () => checkRuns(directory, runs, verdict, predicate));
  await add('training', async () => checkTraining(folder, predicate));
  await add('chain', async () => {
    const again = makeChain(predicate.chain);
    demand(canonicalJson(again) === canonicalJson(predicate.chain), 'a link does not fit the one before it');
    const order = ['dataset', 'base', 'checkpoint', 'run', 'policy', 'verdict'];
    demand(
      predicate.chain.every(
        ({ role }, index) =>
          index === 0 || order.indexOf(role) >= order.indexOf(predicate.chain[index - 1]?.role ?? ''),
      ),
      'the links are not in order',
    );
    const [own, ...others] = linksOf(predicate, 'checkpoint');
    demand(own?.digest === digest && others.length === 0, `the chain does not lead over the checkpoint ${digest}`);
    return `${again.length} links to ${again.at(-1)?.link ?? 'nothing'}`;
  });
}

/** Content of a plain file of bounded size: a pipe or a device in its place is never opened. */
async function readPlain(path: string): Promise<string> {
  const found = await lstat(path).catch(() => null);
  if (found === null) throw new Error(`${basename(path)} is missing`);
  demand(found.isFile(), `${basename(path)} is not a plain file`);
  demand(found.size <= largestBundle, `${basename(path)} has ${found.size} bytes`);
  return (await readFile(path)).toString('latin1');
}

async function readStatement(directory: string, expectedPem: string | undefined): Promise<Statement<GatePredicate>> {
  const text = await readPlain(join(directory, 'gate.sigstore.json'));
  const pem = await readPlain(join(directory, 'public-key.pem'));
  demand(
    expectedPem === undefined || keyHint(expectedPem) === keyHint(pem),
    'it was made with another key than the one that is expected',
  );
  const result = verifyBundle(text, pem);
  if (!result.ok) throw new Error(result.reason);
  // Not signed, but nothing may be slipped in either: there is one way to write a bundle.
  const bundle = JSON.parse(text) as {
    dsseEnvelope: { payload: string; payloadType: string; signatures: readonly { sig: string }[] };
  };
  const { payload, payloadType, signatures } = bundle.dsseEnvelope;
  const plain = {
    mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
    verificationMaterial: { publicKey: { hint: keyHint(pem) }, tlogEntries: [] },
    dsseEnvelope: { payload, payloadType, signatures: signatures.map(({ sig }) => ({ keyid: '', sig })) },
  };
  demand(text === `${canonicalJson(plain)}\n`, 'the bundle holds something beside the signed statement');
  return result.statement as Statement<GatePredicate>;
}

function checkPredicate({ predicateType, predicate }: Statement<GatePredicate>): GatePredicate {
  demand(predicateType === gatePredicateType, `the statement is of type ${predicateType}`);
  demand(predicate.version === 1, `the statement is of version ${String(predicate.version)}, known is 1`);
  const { checkpoint, chain } = predicate as Partial<GatePredicate>;
  demand(
    typeof checkpoint?.digest === 'string' &&
      typeof checkpoint.location === 'string' &&
      !isAbsolute(checkpoint.location),
    'the statement does not say which checkpoint, or not where it lies relative to the evidence',
  );
  const isLink = (value: unknown): boolean =>
    typeof value === 'object' &&
    value !== null &&
    ['role', 'name', 'digest', 'link'].every((key) => typeof (value as Record<string, unknown>)[key] === 'string');
  demand(Array.isArray(chain) && chain.every(isLink), 'the statement has no chain of digests');
  return predicate;
}

function checkDigest(value: unknown, links: readonly ChainLink[], what: string): string {
  const [link] = links;
  if (value === null) {
    demand(links.length === 0, `the chain names a ${what}, the folder has none`);
    return 'none: this is the first baseline of its channel';
  }
  const digest = digestOf(value);
  demand(
    links.length === 1 && link?.digest === digest,
    `the file gives ${digest}, the chain says ${link?.digest ?? 'nothing'}`,
  );
  return digest;
}

async function checkVerdict(
  verdict: Verdict | null,
  policy: Policy | null,
  predicate: GatePredicate,
  runs: readonly ChainItem[],
): Promise<string> {
  const detail = checkDigest(verdict, linksOf(predicate, 'verdict'), 'verdict');
  demand(
    (verdict === null) === (predicate.verdict === null),
    'statement and folder differ in whether there is a verdict',
  );
  if (verdict === null || predicate.verdict === null) return detail;
  demand(verdict.kind === 'PROMOTE' && predicate.verdict.kind === 'PROMOTE', `the verdict is ${verdict.kind}`);
  demand(predicate.verdict.digest === detail, 'the statement names another verdict');
  demand(
    policy !== null &&
      verdict.policyDigest === digestOf(policy) &&
      predicate.verdict.policyDigest === verdict.policyDigest,
    'the verdict was given by another policy',
  );
  demand(
    verdict.candidate.digest === predicate.checkpoint.digest,
    `the verdict is on ${verdict.candidate.digest}, promoted is ${predicate.checkpoint.digest}`,
  );
  const known = new Set(runs.map(({ name }) => name));
  const absent = [...verdict.candidate.runs, ...(verdict.baseline?.runs ?? [])].find((id) => !known.has(id));
  demand(absent === undefined, `the verdict rests on run ${absent ?? ''}, which is not here`);
  return `${verdict.kind}: ${verdict.headline}`;
}

async function checkRuns(
  directory: string,
  runs: readonly ChainItem[],
  verdict: Verdict | null,
  predicate: GatePredicate,
): Promise<string> {
  for (const { name, digest } of runs) {
    demand(/^[0-9a-f]{16}$/.test(name), `${name} is not the id of a run`);
    const text = await readFile(join(directory, 'runs', `${name}.jsonl`), 'utf8');
    const { identity, seen } = readRun(text);
    demand(seen === digest, `run ${name} gives ${seen}, the chain says ${digest}`);
    demand(
      identity.id === name && runId(identity) === name,
      `run ${name} has an identity that gives ${runId(identity)}`,
    );
    if (verdict === null) continue;
    const wanted = verdict.candidate.runs.includes(name)
      ? predicate.checkpoint.digest
      : verdict.baseline?.runs.includes(name) === true
        ? verdict.baseline.digest
        : null;
    demand(
      wanted === null || identity.checkpoint.digest === wanted,
      `run ${name} is of checkpoint ${identity.checkpoint.digest}`,
    );
  }
  return `${runs.length} runs hold`;
}

function readRun(text: string): { identity: RunIdentity; seen: string } {
  const end = text.indexOf('\n');
  const identity = JSON.parse(text.slice(0, end)) as RunIdentity;
  return { identity, seen: `sha256:${sha256(text)}` };
}

/** The record beside the weights, where there is one, must name the base and a dataset of the chain. */
async function checkTraining(folder: string, predicate: GatePredicate): Promise<string> {
  const text = await readFile(join(folder, 'cupel_run.json'), 'utf8').catch(() => null);
  const [base] = linksOf(predicate, 'base');
  if (text === null) {
    demand(base === undefined, 'the chain names a base, but the checkpoint has no training record');
    return 'none: the checkpoint was not trained here';
  }
  const record = JSON.parse(text) as TrainingRecord;
  // A base that was trained here keeps its record when it is promoted as it is: then its parent is not part of the chain.
  if (base === undefined) return `by ${record.trainer}; what it was trained from is not part of this evidence`;
  demand(record.parent === base.digest, `it was trained from ${record.parent}, the chain says ${base.digest}`);
  const data = linksOf(predicate, 'dataset').map(({ digest }) => digest);
  demand(data.includes(record.dataDigest), `it was trained on ${record.dataDigest}, which the chain does not name`);
  return `${record.trainer}, ${record.steps} steps from ${base.name}`;
}

function linksOf(predicate: GatePredicate, role: ChainItem['role']): ChainLink[] {
  return predicate.chain.filter((link) => link.role === role);
}

async function readJson<T>(directory: string, name: string): Promise<T | null> {
  try {
    return JSON.parse(await readFile(join(directory, name), 'utf8')) as T;
  } catch {
    return null;
  }
}

function demand(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}
