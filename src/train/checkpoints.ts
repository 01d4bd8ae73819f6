import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Learner, TrainEvent } from '../contracts/index.ts';
import { digestOf, sha256File } from '../kit/index.ts';
import { trainErrors } from './errors.ts';
import { faultOf, identityFault, type RunIdentity, type RunState } from './run-state.ts';
import { warn } from './warn.ts';

interface StateFile {
  readonly version: 1;
  readonly identity: RunIdentity;
  readonly codeVersion: string;
  readonly state: RunState;
  readonly learner: { readonly bytes: number; readonly sha256: string };
}

const pattern = /^step-(\d+)$/;
const learnerFile = 'learner.state';
const stateFile = 'state.json';

/** Checkpoints of a run in `<work>/checkpoints/step-<n>`. Folders get their name when they are whole, never before. */
export class Checkpoints {
  readonly #folder: string;
  readonly #identity: RunIdentity;
  readonly #codeVersion: string;
  #last: string | null = null;

  constructor(folder: string, identity: RunIdentity, codeVersion: string) {
    this.#folder = folder;
    this.#identity = identity;
    this.#codeVersion = codeVersion;
  }

  /** Folder of the newest checkpoint that this run has written or goes on from. */
  get last(): string | null {
    return this.#last;
  }

  /** Removes those of an earlier run, which a fresh one replaces. */
  async clear(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }

  /**
   * Writes a checkpoint and removes the oldest beyond `keep`; that of the best step stays.
   * @returns its folder
   * @throws CUPEL_TRAIN_CHECKPOINT_FAILED naming the last whole one, which is untouched
   */
  async save(learner: Learner, state: RunState, keep: number): Promise<string> {
    const folder = join(this.#folder, `step-${state.progress.step}`);
    const partial = `${folder}.partial`;
    try {
      await rm(partial, { recursive: true, force: true });
      await mkdir(partial, { recursive: true });
      const weights = join(partial, learnerFile);
      await learner.saveState(weights);
      await flush(weights);
      const content: StateFile = {
        version: 1,
        identity: this.#identity,
        codeVersion: this.#codeVersion,
        state,
        learner: { bytes: (await stat(weights)).size, sha256: await sha256File(weights) },
      };
      await writeWhole(join(partial, stateFile), `${JSON.stringify({ ...content, digest: digestOf(content) })}\n`);
      await flush(partial);
      await this.#replace(partial, folder);
      await flush(this.#folder);
    } catch (cause) {
      await rm(partial, { recursive: true, force: true }).catch(() => {});
      throw trainErrors.CUPEL_TRAIN_CHECKPOINT_FAILED({
        message: `step ${state.progress.step}: ${(cause as Error).message}; ${this.#last === null ? 'there is none before it' : `last whole one: ${this.#last}`}`,
        where: folder,
        cause,
      });
    }
    this.#last = folder;
    // What can not be removed is no reason to stop: the checkpoint is whole.
    await this.#prune(state.progress.step, keep, state.validation.best?.step ?? null).catch(() => {});
    return folder;
  }

  /** One of the same step moves aside first: whenever the process dies, one of the two is whole. */
  async #replace(partial: string, folder: string): Promise<void> {
    const old = `${folder}.old`;
    await rm(old, { recursive: true, force: true });
    await rename(folder, old).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    await rename(partial, folder);
    await rm(old, { recursive: true, force: true });
  }

  /** Removes what a killed process left half done, and puts back what it had moved aside. */
  async #tidy(): Promise<void> {
    for (const name of await readdir(this.#folder).catch(() => [] as string[])) {
      const path = join(this.#folder, name);
      const folder = path.slice(0, -'.old'.length);
      if (name.endsWith('.partial')) await rm(path, { recursive: true, force: true });
      else if (!name.endsWith('.old')) continue;
      else if (await stat(folder).catch(() => null)) await rm(path, { recursive: true, force: true });
      else await rename(path, folder);
    }
  }

  /**
   * The newest whole checkpoint, or null. Damaged ones are told and passed over, as those that miss something else.
   * @throws CUPEL_TRAIN_RESUME_* where the run is another than the one that wrote it
   */
  async latest(
    sink: (event: TrainEvent) => void,
    missing: (state: RunState) => string | null,
  ): Promise<{ readonly state: RunState; readonly load: string } | null> {
    await this.#tidy();
    for (const step of (await this.#steps()).reverse()) {
      const folder = join(this.#folder, `step-${step}`);
      const found = await readWhole(folder, step);
      const fault = typeof found === 'string' ? found : missing(found.state);
      if (typeof found === 'string' || fault !== null) {
        warn(sink, 'CUPEL_TRAIN_CHECKPOINT_DAMAGED', `${folder} is passed over: ${fault}`);
        continue;
      }
      refuseChanges(found.identity, this.#identity, folder);
      if (found.codeVersion !== this.#codeVersion) {
        warn(
          sink,
          'CUPEL_TRAIN_RESUME_VERSION',
          `${folder} was written by version ${found.codeVersion}, and this is ${this.#codeVersion}: the rest may differ in bits`,
        );
      }
      this.#last = folder;
      return { state: found.state, load: join(folder, learnerFile) };
    }
    return null;
  }

  /** Steps of the best weights that checkpoints on disk refer to. */
  async bestSteps(): Promise<ReadonlySet<number>> {
    const best = new Set<number>();
    for (const step of await this.#steps()) {
      const found = await readWhole(join(this.#folder, `step-${step}`), step, { weights: false });
      if (typeof found !== 'string' && found.state.validation.best !== null) best.add(found.state.validation.best.step);
    }
    return best;
  }

  async #steps(): Promise<number[]> {
    const names = await readdir(this.#folder).catch(() => [] as string[]);
    const steps = names.flatMap((name) => pattern.exec(name)?.[1] ?? []).map(Number);
    return steps.sort((a, b) => a - b);
  }

  /** Later ones were passed over as damaged: they must not count as the newest. */
  async #prune(newest: number, keep: number, best: number | null): Promise<void> {
    const all = await this.#steps();
    const steps = all.filter((step) => step <= newest);
    const old = steps.slice(0, Math.max(0, steps.length - Math.max(1, keep)));
    for (const step of [...old, ...all.filter((one) => one > newest)]) {
      if (step !== best) await rm(join(this.#folder, `step-${step}`), { recursive: true, force: true });
    }
  }
}

/** @returns the content, or what is wrong with it */
async function readWhole(
  folder: string,
  step: number,
  options: { readonly weights: boolean } = { weights: true },
): Promise<StateFile | string> {
  try {
    const { digest, ...content } = JSON.parse(await readFile(join(folder, stateFile), 'utf8')) as StateFile & {
      readonly digest: string;
    };
    if (content.version !== 1) return `its version is ${String(content.version)}`;
    if (digestOf(content) !== digest) return `${stateFile} is not what was written`;
    const fault = identityFault(content.identity) ?? faultOf(content.state, step);
    if (fault !== null) return fault;
    if (!options.weights) return content;
    const file = join(folder, learnerFile);
    const { size } = await stat(file);
    if (size !== content.learner.bytes) return `${learnerFile} has ${size} bytes of ${content.learner.bytes}`;
    if ((await sha256File(file)) !== content.learner.sha256) return `${learnerFile} is not what was written`;
    return content;
  } catch (error) {
    return (error as Error).message;
  }
}

function refuseChanges(was: RunIdentity, now: RunIdentity, folder: string): void {
  const { CUPEL_TRAIN_RESUME_BASE, CUPEL_TRAIN_RESUME_DATA, CUPEL_TRAIN_RESUME_STEPS, CUPEL_TRAIN_RESUME_RECIPE } =
    trainErrors;
  const parts = [
    ['base', CUPEL_TRAIN_RESUME_BASE],
    ['data', CUPEL_TRAIN_RESUME_DATA],
    // Before the recipe, of which they are a part: this names what hurts.
    ['steps', CUPEL_TRAIN_RESUME_STEPS],
    ['recipe', CUPEL_TRAIN_RESUME_RECIPE],
  ] as const;
  for (const [part, refused] of parts) {
    if (was[part] !== now[part]) throw refused({ message: `${part}: ${was[part]} became ${now[part]}`, where: folder });
  }
}

async function writeWhole(path: string, text: string): Promise<void> {
  const handle = await open(path, 'w');
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes a file, or the names in a folder, survive a loss of power. */
async function flush(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
