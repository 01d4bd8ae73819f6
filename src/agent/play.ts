import type {
  Case,
  Completion,
  EpisodeOptions,
  EpisodeResult,
  Generate,
  GenerateRequest,
  Message,
  PlayEpisodes,
  Suite,
  TraceEvent,
} from '../contracts/index.ts';
import { checkAgainst, compileSchema, digestOf, isCupelError, nearest, requestSeed } from '../kit/index.ts';
import { agentErrors } from './errors.ts';
import { helpDesk } from './help-desk.ts';
import { openingMessages } from './prompt.ts';
import { readTurn, writeResult } from './protocol.ts';
import { TraceWriter } from './trace.ts';
import type { ToolOutcome, World } from './world.ts';

const worlds: readonly World[] = [helpDesk];
const defaultMaxTurns = 8;

type EndReason = Extract<TraceEvent, { type: 'end' }>['reason'];

/** The tools of a suite, bound to their world: name to what happens when it is called. */
type Toolbox = ReadonlyMap<string, (state: unknown, given: Readonly<Record<string, unknown>>) => ToolOutcome>;

/**
 * Plays the episodes of a suite together: each round hands one request an unfinished episode to `generate`. Tools run
 * here and nowhere else. Unknown tools, bad arguments and malformed calls come back to the model as error results.
 * A case that cannot be played ends with `error`; the others go on.
 * @throws CUPEL_AGENT_WORLD_UNKNOWN, CUPEL_AGENT_TOOL_UNKNOWN before the first request
 */
export const playEpisodes: PlayEpisodes = async function* (suite, cases, generate, options = {}) {
  const { toolbox, checkState } = prepare(suite);
  let running: Episode[] = [];
  for (const item of cases) {
    try {
      const state = checkAgainst(checkState, item.input['state'], `${suite.id}: case ${item.id}: input.state`);
      running.push(new Episode(suite, item, state, offered(suite, item, toolbox), options.seed ?? 0));
    } catch (error) {
      if (!isCupelError(error)) throw error;
      const code = error.code === 'CUPEL_AGENT_TOOL_UNKNOWN' ? error.code : 'CUPEL_AGENT_STATE_INVALID';
      yield {
        case: item.id,
        output: null,
        error: { code, message: error.message },
        usage: { promptTokens: 0, generatedTokens: 0 },
      };
    }
  }
  while (running.length > 0) {
    const finished = yield* round(running, generate, options);
    if (options.signal?.aborted === true) return;
    running = running.filter((episode) => !finished.has(episode));
  }
};

/** One request an episode; yields those that end. */
async function* round(
  running: readonly Episode[],
  generate: Generate,
  options: EpisodeOptions,
): AsyncGenerator<EpisodeResult, Set<Episode>> {
  const waiting = new Map(running.map((episode) => [episode.requestId, episode]));
  const finished = new Set<Episode>();
  for await (const completion of generate(
    running.map((episode) => episode.request()),
    options.signal,
  )) {
    const episode = waiting.get(completion.id);
    if (episode === undefined) continue;
    waiting.delete(completion.id);
    const result = episode.advance(completion, options.contextLength);
    if (result === null) continue;
    finished.add(episode);
    yield result;
  }
  if (options.signal?.aborted === true) return finished;
  for (const episode of waiting.values()) {
    finished.add(episode);
    yield episode.fail({ code: 'CUPEL_AGENT_NO_COMPLETION', message: `no completion came for ${episode.requestId}` });
  }
  return finished;
}

class Episode {
  readonly #suite: Suite;
  readonly #item: Case;
  readonly #tools: Toolbox;
  readonly #seed: number;
  readonly #messages: Message[];
  readonly #trace = new TraceWriter();
  readonly #usage = { promptTokens: 0, generatedTokens: 0 };
  #state: unknown;
  #turn = 1;
  #lastText = '';

  constructor(suite: Suite, item: Case, state: unknown, tools: Toolbox, seed: number) {
    this.#seed = seed;
    this.#suite = suite;
    this.#item = item;
    this.#tools = tools;
    this.#state = state;
    this.#messages = openingMessages(suite, item);
    this.#trace.add({ type: 'start', caseDigest: item.digest, stateDigest: digestOf(state) });
    this.#trace.add({ type: 'prompt', digest: digestOf(this.#messages) });
  }

  get requestId(): string {
    return `${this.#item.id}#${this.#turn}`;
  }

  request(): GenerateRequest {
    const { maxTokens, stop, jsonSchema, sampling } = this.#suite.decoding;
    return {
      id: this.requestId,
      prompt: { messages: [...this.#messages] },
      maxTokens,
      ...(stop === undefined ? {} : { stop }),
      ...(jsonSchema === undefined ? {} : { jsonSchema }),
      ...(sampling === undefined ? {} : { sampling: { ...sampling, seed: requestSeed(this.#seed, this.requestId) } }),
    };
  }

  /** Takes the model's turn; null while the episode goes on. */
  advance(completion: Completion, contextLength: number | undefined): EpisodeResult | null {
    this.#usage.promptTokens += completion.usage.promptTokens;
    this.#usage.generatedTokens += completion.usage.generatedTokens;
    if (completion.finish === 'error') {
      const error = completion.error ?? { code: 'CUPEL_AGENT_NO_COMPLETION', message: 'the engine gave no reason' };
      // What was done before the dialogue outgrew the context counts; an opening that never fitted was never played.
      return this.#turn > 1 && /CONTEXT|TOO_LONG/.test(error.code) ? this.#end('context-limit') : this.fail(error);
    }
    this.#lastText = completion.text;
    this.#trace.add({ type: 'assistant', text: completion.text });
    const turn = readTurn(completion.text);
    if (turn.kind === 'final') return this.#end('done');
    const name = turn.kind === 'call' ? turn.name : '';
    const outcome = this.#execute(turn.kind === 'call' ? turn : turn.reason);
    this.#state = outcome.state;
    this.#trace.add({ type: 'tool-result', name, result: outcome.result, ok: outcome.ok });
    this.#messages.push(
      { role: 'assistant', content: completion.text.trim() },
      { role: 'tool', name, content: writeResult(outcome.result) },
    );
    if (this.#turn >= (this.#suite.maxTurns ?? defaultMaxTurns)) return this.#end('turn-limit');
    const used = completion.usage.promptTokens + completion.usage.generatedTokens;
    if (contextLength !== undefined && used >= contextLength) return this.#end('context-limit');
    this.#turn++;
    return null;
  }

  fail(error: { readonly code: string; readonly message: string }): EpisodeResult {
    return { case: this.#item.id, output: null, error, usage: { ...this.#usage } };
  }

  #execute(
    call: { readonly name: string; readonly arguments: Readonly<Record<string, unknown>> } | string,
  ): ToolOutcome {
    if (typeof call === 'string') return { result: { error: call }, ok: false, state: this.#state };
    this.#trace.add({ type: 'tool-call', name: call.name, arguments: call.arguments });
    const tool = this.#tools.get(call.name);
    return tool === undefined
      ? { result: { error: 'no such tool' }, ok: false, state: this.#state }
      : tool(this.#state, call.arguments);
  }

  #end(reason: EndReason): EpisodeResult {
    this.#trace.add({ type: 'end', reason, stateDigest: digestOf(this.#state) });
    return {
      case: this.#item.id,
      output: { text: this.#lastText, trace: this.#trace.finish(), state: this.#state },
      usage: { ...this.#usage },
    };
  }
}

interface Prepared {
  readonly toolbox: Toolbox;
  readonly checkState: ReturnType<typeof compileSchema>;
}

/** Schemas compile slowly, and one suite is played often. */
const preparedSuites = new WeakMap<Suite, Prepared>();

function prepare(suite: Suite): Prepared {
  const known = preparedSuites.get(suite);
  if (known !== undefined) return known;
  const world = worldOf(suite);
  const checkState = compileSchema(world.stateSchema, world.id);
  const badArguments = (state: unknown): ToolOutcome => ({ result: { error: 'bad arguments' }, ok: false, state });
  const tools = (suite.tools ?? []).map(({ name, parameters }) => {
    const act = Object.hasOwn(world.tools, name) ? world.tools[name] : undefined;
    if (act === undefined) {
      throw agentErrors.CUPEL_AGENT_TOOL_UNKNOWN({
        message: `the world ${world.id} has no tool "${name}"`,
        where: `${suite.path}: tools`,
      });
    }
    const validate = compileSchema(parameters, `${suite.path}: tools.${name}`);
    const bound = (state: unknown, given: Readonly<Record<string, unknown>>): ToolOutcome => {
      if (!validate(given)) return badArguments(state);
      const outcome = act(state as never, given);
      // A suite may describe its tools more loosely than the world allows: what would spoil the state is refused.
      return checkState(outcome.state) ? outcome : badArguments(state);
    };
    return [name, bound] as const;
  });
  const prepared = { toolbox: new Map(tools), checkState };
  preparedSuites.set(suite, prepared);
  return prepared;
}

function worldOf(suite: Suite): World {
  const world = worlds.find(({ id }) => id === suite.world);
  if (world !== undefined) return world;
  const known = worlds.map(({ id }) => id);
  const near = nearest(suite.world ?? '', known);
  throw agentErrors.CUPEL_AGENT_WORLD_UNKNOWN({
    message: `no world is named "${suite.world ?? ''}"${near === null ? '' : `; did you mean "${near}"?`}`,
    where: `${suite.path}: world`,
    remedy: `Known worlds: ${known.join(', ')}.`,
  });
}

/** The tools of a case: those that `input.tools` names, or all of the suite. */
function offered(suite: Suite, item: Case, toolbox: Toolbox): Toolbox {
  const names = item.input['tools'];
  if (names === undefined) return toolbox;
  const wanted = Array.isArray(names) ? (names as unknown[]).map(String) : [];
  const stranger = wanted.find((name) => !toolbox.has(name));
  if (stranger !== undefined || !Array.isArray(names)) {
    throw agentErrors.CUPEL_AGENT_TOOL_UNKNOWN({
      message: `input.tools offers ${stranger === undefined ? 'no list of names' : `"${stranger}"`}, which the suite does not have`,
      where: `${suite.path}: case ${item.id}`,
    });
  }
  return new Map([...toolbox].filter(([name]) => wanted.includes(name)));
}
