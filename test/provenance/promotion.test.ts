import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Policy, RunIdentity, Verdict } from '../../src/contracts/index.ts';
import { canonicalJson, digestFolder, digestOf, runId } from '../../src/kit/index.ts';
import {
  ensureKey,
  gatePredicateType,
  keyNotice,
  makeStatement,
  signStatement,
  verifyPromotion,
  writePromotion,
  type PromotionInput,
} from '../../src/provenance/index.ts';
import { runText } from '../../src/store/index.ts';
import { sampleIdentity, sampleRow } from '../store/sample.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cupel-promotion-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;
const evidence = (): string => join(directory, 'store', 'evidence', 'sft');

async function sampleInput(change: Partial<PromotionInput> = {}): Promise<PromotionInput> {
  const path = join(directory, 'store', 'objects', 'one');
  await mkdir(path, { recursive: true });
  await writeFile(join(path, 'model.safetensors'), Buffer.from([1, 2, 3, 0, 255]));
  await writeFile(join(path, 'config.json'), '{"hidden_size":4}');
  await writeFile(
    join(path, 'cupel_run.json'),
    JSON.stringify({
      version: 1,
      trainer: 'sft',
      parent: digest('b'),
      recipeDigest: digest('r'),
      dataDigest: digest('d'),
      templateDigest: digest('t'),
      seed: 1,
      steps: 3,
      trainedTokens: 4,
      metrics: {},
    }),
  );
  const candidate = await digestFolder(path);
  const runOf = (id: string, checkpoint: string): { id: string; text: string; identity: RunIdentity } => {
    const identity = sampleIdentity({ checkpoint: { id, digest: checkpoint } });
    return { id: identity.id, identity, text: runText({ identity, rows: [sampleRow('a'), sampleRow('b')] }) };
  };
  const [left, right] = [runOf('base', digest('b')), runOf('sft', candidate)];
  const policy: Policy = {
    version: 1,
    alpha: 0.05,
    cluster: 'cluster',
    primary: { metric: 'tickets/exact', minEffect: 0 },
    guards: { critical: [], watch: [] },
    missing: { max: 0.02 },
    bootstrap: { resamples: 100, seed: 1 },
  };
  const verdict: Verdict = {
    version: 1,
    algorithm: 'gate@1',
    kind: 'PROMOTE',
    headline: 'Better and nothing worse.',
    rules: [],
    casesNeeded: null,
    policyDigest: digestOf(policy),
    baseline: { checkpoint: 'base', digest: digest('b'), runs: [left.id] },
    candidate: { checkpoint: 'sft', digest: candidate, runs: [right.id] },
  };
  return {
    directory: evidence(),
    checkpoint: { id: 'sft', digest: candidate, path },
    base: { id: 'base', digest: digest('b') },
    datasets: [{ name: 'tickets', digest: digest('d') }],
    runs: [left, right].map(({ id, text }) => ({ id, text })),
    policy,
    verdict,
    estimates: { 'tickets/exact': { value: 1, low: 0.5, high: 1, n: 2, clusters: 2, errors: 0, unscored: 0 } },
    scorecard: '<!doctype html><title>Scorecard</title>',
    key: await ensureKey(join(directory, 'keys')),
    ...change,
  };
}

const failing = async (): Promise<string[]> =>
  (await verifyPromotion(evidence())).checks.filter(({ ok }) => !ok).map(({ name, detail }) => `${name}: ${detail}`);

async function filesBelow(folder: string): Promise<string[]> {
  return (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

describe('the evidence of a promotion', () => {
  it('verifies, with every check told, and says that the key proves no identity', async () => {
    const { key, checkpoint } = await sampleInput();
    const written = await writePromotion(await sampleInput());
    const { ok, checks, predicate } = await verifyPromotion(evidence(), { publicKeyPem: key.publicKeyPem });
    expect(checks.filter((check) => !check.ok)).toEqual([]);
    expect(ok).toBe(true);
    expect(checks.map(({ name }) => name)).toEqual([
      'signature',
      'statement',
      'evidence files',
      'checkpoint files',
      'checkpoint digest',
      'model signature',
      'policy',
      'verdict',
      'runs',
      'training',
      'chain',
    ]);
    expect(predicate?.notice).toBe(keyNotice);
    expect(predicate?.checkpoint).toEqual({ id: 'sft', digest: checkpoint.digest, location: '../../objects/one' });
    expect(predicate?.chain.map(({ role }) => role)).toEqual([
      'dataset',
      'base',
      'checkpoint',
      'run',
      'run',
      'policy',
      'verdict',
    ]);
    expect(written.head).toBe(predicate?.chain.at(-1)?.link);
    expect((await verifyPromotion(evidence())).checks[0]?.detail).toContain('proves no identity');
    expect(await readdir(join(directory, 'store', 'evidence'))).toEqual(['sft']);
  });

  it('detects a change of any one byte of any file', async () => {
    const input = await sampleInput();
    await writePromotion(input);
    const files = [...(await filesBelow(evidence())), ...(await filesBelow(input.checkpoint.path))];
    expect(files).toHaveLength(12);
    for (const file of files) {
      const bytes = await readFile(file);
      // Every 197th byte and the last: each kind of place in each file, in a second or two.
      const places = new Set(
        [...Array(Math.ceil(bytes.length / 197)).keys()].map((index) => index * 197).concat(bytes.length - 1),
      );
      for (const at of places) {
        const changed = Buffer.from(bytes);
        changed[at] = (changed[at] ?? 0) ^ (at % 2 === 0 ? 1 : 0x20);
        await writeFile(file, changed);
        expect({ file, at, ok: (await verifyPromotion(evidence())).ok }).toEqual({ file, at, ok: false });
      }
      await writeFile(file, bytes);
    }
    expect((await verifyPromotion(evidence())).ok).toBe(true);
  }, 20_000);

  it('detects every added and every removed file', async () => {
    const input = await sampleInput();
    await writePromotion(input);
    for (const folder of [evidence(), join(evidence(), 'runs'), input.checkpoint.path]) {
      for (const name of ['extra', '.gitattributes']) {
        await writeFile(join(folder, name), '');
        expect(await failing()).toContainEqual(expect.stringMatching(/files: .*was added$/));
        await rm(join(folder, name));
      }
    }
    for (const file of [...(await filesBelow(evidence())), ...(await filesBelow(input.checkpoint.path))]) {
      const bytes = await readFile(file);
      await rm(file);
      expect({ file, ok: (await verifyPromotion(evidence())).ok }).toEqual({ file, ok: false });
      await writeFile(file, bytes);
    }
  });

  it('names the file that changed', async () => {
    const input = await sampleInput();
    await writePromotion(input);
    await writeFile(join(input.checkpoint.path, 'config.json'), '{"hidden_size":5}');
    expect(await failing()).toEqual([
      'checkpoint files: config.json has changed',
      'checkpoint digest: not checked, because the files of the checkpoint do not hold',
      'model signature: not checked, because the files of the checkpoint do not hold',
    ]);
  });

  it('moves with its store, and does not hold for another key than the expected one', async () => {
    await writePromotion(await sampleInput());
    await cp(join(directory, 'store'), join(directory, 'moved'), { recursive: true });
    await rename(join(directory, 'store'), join(directory, 'gone'));
    expect((await verifyPromotion(join(directory, 'moved', 'evidence', 'sft'))).ok).toBe(true);
    const other = await ensureKey(join(directory, 'other'));
    expect(
      (await verifyPromotion(join(directory, 'moved', 'evidence', 'sft'), { publicKeyPem: other.publicKeyPem })).checks,
    ).toEqual([{ name: 'signature', ok: false, detail: 'it was made with another key than the one that is expected' }]);
  });

  it('is kept when the same promotion is written again, and never replaced by another', async () => {
    await writePromotion(await sampleInput());
    const before = await readFile(join(evidence(), 'gate.sigstore.json'));
    await writePromotion(await sampleInput());
    expect(await readFile(join(evidence(), 'gate.sigstore.json'))).toEqual(before);
    await expect(writePromotion(await sampleInput({ estimates: {} }))).rejects.toMatchObject({
      code: 'CUPEL_PROVENANCE_EVIDENCE_EXISTS',
    });
  });

  it('exists for the first baseline without policy and verdict', async () => {
    const input = await sampleInput({ policy: null, verdict: null, scorecard: null, runs: [], estimates: {} });
    await writePromotion(input);
    expect(await failing()).toEqual([]);
  });

  it('is refused for what the gate did not let through', async () => {
    const input = await sampleInput();
    for (const kind of ['REJECT', 'INCONCLUSIVE', 'INVALID'] as const) {
      await expect(
        writePromotion({ ...input, verdict: { ...(input.verdict as Verdict), kind } }),
      ).rejects.toMatchObject({ code: 'CUPEL_PROVENANCE_NOT_PROMOTED', exit: 4 });
    }
  });

  it('is refused, and leaves nothing behind, when its parts do not fit one another', async () => {
    const input = await sampleInput();
    const verdict = input.verdict as Verdict;
    const [left, right] = input.runs;
    const foreign = { ...sampleIdentity({ seed: 99 }) };
    const cases: readonly (readonly [Partial<PromotionInput>, RegExp])[] = [
      [{ checkpoint: { ...input.checkpoint, digest: digest('0') } }, /^checkpoint digest: /],
      [{ verdict: { ...verdict, policyDigest: digest('0') } }, /^verdict: the verdict was given by another policy/],
      [{ policy: null }, /^verdict: the verdict was given by another policy/],
      [
        { verdict: { ...verdict, candidate: { ...verdict.candidate, digest: digest('0') } } },
        /^verdict: the verdict is on sha256:0/,
      ],
      [{ runs: left === undefined ? [] : [left] }, /^verdict: the verdict rests on run .*, which is not here/],
      [
        { verdict: { ...verdict, candidate: { ...verdict.candidate, runs: [left?.id ?? ''] } } },
        /^runs: run .* is of checkpoint sha256:b/,
      ],
      [
        { runs: [...input.runs, { id: '0123456789abcdef', text: right?.text ?? '' }] },
        /^runs: run 0123456789abcdef has an identity that gives/,
      ],
      [
        {
          runs: [
            ...input.runs,
            { id: foreign.id, text: runText({ identity: { ...foreign, seed: 98, id: foreign.id }, rows: [] }) },
          ],
        },
        /^runs: run .* has an identity that gives/,
      ],
      [{ base: { id: 'base', digest: digest('0') } }, /^training: it was trained from sha256:b/],
      [{ datasets: [] }, /^training: it was trained on sha256:d/],
    ];
    expect(runId(foreign)).toBe(foreign.id);
    for (const [change, message] of cases) {
      await expect(writePromotion({ ...input, ...change })).rejects.toMatchObject({
        code: 'CUPEL_PROVENANCE_EVIDENCE_INCONSISTENT',
        message: expect.stringMatching(message) as string,
      });
      expect(await readdir(join(directory, 'store', 'evidence'))).toEqual([]);
    }
  });

  it('answers a folder that is not there, and rubbish, without throwing', async () => {
    expect((await verifyPromotion(join(directory, 'nowhere'))).checks).toEqual([
      { name: 'signature', ok: false, detail: 'gate.sigstore.json is missing' },
    ]);
    await writeFile(join(directory, 'gate.sigstore.json'), '[');
    await writeFile(join(directory, 'public-key.pem'), 'x');
    expect((await verifyPromotion(directory)).checks).toEqual([
      { name: 'signature', ok: false, detail: 'the bundle is not JSON' },
    ]);
  });

  it('takes well-signed nonsense as a check that fails', async () => {
    const key = await ensureKey(join(directory, 'keys'));
    const checkpoint = { id: 'x', digest: digest('0'), location: '../nowhere' };
    await mkdir(evidence(), { recursive: true });
    await writeFile(join(evidence(), 'public-key.pem'), key.publicKeyPem);
    for (const predicate of [
      {},
      { version: 2 },
      { version: 1, checkpoint, chain: [null] },
      { version: 1, checkpoint: { ...checkpoint, location: '/' }, chain: [] },
      { version: 1, checkpoint, chain: [] },
    ]) {
      for (const type of [gatePredicateType, 'urn:other']) {
        const bundle = signStatement(makeStatement(type, [], predicate), key);
        await writeFile(join(evidence(), 'gate.sigstore.json'), `${canonicalJson(bundle)}\n`);
        const { ok, checks } = await verifyPromotion(evidence());
        expect({ ok, signature: checks[0]?.ok }).toEqual({ ok: false, signature: true });
      }
    }
  });
});
