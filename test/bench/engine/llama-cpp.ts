// llama.cpp's C API, called in the shared libraries that node-llama-cpp publishes on npm: the library without the cost
// of any wrapper. The structures are those of include/llama.h of exactly this version.
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** Version of node-llama-cpp's platform package, and of llama.cpp in it. */
export const peerVersion = { package: '3.22.1', library: '0.5.0' } as const;
export const foreignFunctions = { name: 'koffi', version: '2.16.2' } as const;

/** Name of the platform package with CPU libraries, e.g. `@node-llama-cpp/linux-x64`. */
export const peerPackage = `@node-llama-cpp/${process.platform === 'win32' ? 'win' : process.platform === 'darwin' ? 'mac' : process.platform}-${process.arch}`;

type Pointer = object;
type Structure = Record<string, unknown>;

/** What the bench uses of koffi. */
interface ForeignFunctions {
  load(file: string): { func(signature: string): (...values: unknown[]) => unknown };
  struct(name: string, fields: Record<string, string>): unknown;
  alloc(type: string, count: number): Pointer;
  view(pointer: Pointer, bytes: number): ArrayBuffer;
  address(pointer: Pointer): bigint;
}

export interface LlamaOptions {
  readonly threads: number;
  /** Cells of the key-value cache. */
  readonly context: number;
  readonly sequences: number;
  /** Sequences share one buffer, so that a copied prefix costs nothing; else each has its own part. */
  readonly unified: boolean;
  /** Most tokens of one `decode`. */
  readonly batch: number;
}

/** One token of a batch. */
export interface BatchToken {
  readonly token: number;
  readonly position: number;
  readonly sequences: readonly number[];
  /** Whether its logits are wanted. */
  readonly output: boolean;
}

export class LlamaCpp {
  readonly #api: Record<string, (...values: never[]) => unknown>;
  readonly #foreign: ForeignFunctions;
  readonly #model: unknown;
  readonly #vocabularySize: number;

  /** @param peers the folder in which the peers are installed. @param gguf the model. */
  constructor(peers: string, gguf: string) {
    const require = createRequire(join(peers, 'package.json'));
    this.#foreign = require(foreignFunctions.name) as ForeignFunctions;
    const libraries = join(peers, 'node_modules', peerPackage, 'bins', `${process.platform}-${process.arch}`);
    this.#api = bind(this.#foreign, libraries);
    this.call('ggml_backend_load_all_from_path', libraries);
    this.call('llama_backend_init');
    const parameters = this.call('llama_model_default_params') as Structure;
    const model = this.call('llama_model_load_from_file', gguf, parameters);
    if (model === null) throw new Error(`llama.cpp could not load ${gguf}`);
    this.#model = model;
    this.#vocabularySize = this.call('llama_vocab_n_tokens', this.call('llama_model_get_vocab', model)) as number;
  }

  get vocabularySize(): number {
    return this.#vocabularySize;
  }

  context(options: LlamaOptions): LlamaContext {
    return new LlamaContext(this, this.#foreign, this.#model, options);
  }

  /** Grammar of a chain that constrains, then takes the most probable token. */
  grammarSampler(grammar: string): Pointer {
    const vocabulary = this.call('llama_model_get_vocab', this.#model);
    const chain = this.call('llama_sampler_chain_init', { no_perf: true }) as Pointer;
    this.call('llama_sampler_chain_add', chain, this.call('llama_sampler_init_grammar', vocabulary, grammar, 'root'));
    this.call('llama_sampler_chain_add', chain, this.call('llama_sampler_init_greedy'));
    return chain;
  }

  call(name: string, ...values: unknown[]): unknown {
    const found = this.#api[name] as ((...values: unknown[]) => unknown) | undefined;
    if (found === undefined) throw new Error(`${name} is not bound`);
    return found(...values);
  }
}

export class LlamaContext {
  readonly #library: LlamaCpp;
  readonly #foreign: ForeignFunctions;
  readonly #context: unknown;
  readonly #memory: unknown;
  readonly #batch: Structure;
  readonly #tokens: Int32Array;
  readonly #positions: Int32Array;
  readonly #counts: Int32Array;
  readonly #outputs: Int8Array;
  readonly #sequences: Int32Array;
  readonly #most: number;

  constructor(library: LlamaCpp, foreign: ForeignFunctions, model: unknown, options: LlamaOptions) {
    this.#library = library;
    this.#foreign = foreign;
    const parameters = {
      ...(library.call('llama_context_default_params') as Structure),
      n_ctx: options.context,
      n_batch: options.batch,
      n_ubatch: Math.min(512, options.batch),
      n_seq_max: options.sequences,
      n_threads: options.threads,
      n_threads_batch: options.threads,
      kv_unified: options.unified,
    };
    const context = library.call('llama_init_from_model', model, parameters);
    if (context === null) throw new Error('llama.cpp could not make a context');
    this.#context = context;
    this.#memory = library.call('llama_get_memory', context);
    this.#most = options.batch;
    const array = (type: string, size: number, count: number): [Pointer, ArrayBuffer] => {
      const pointer = foreign.alloc(type, count);
      return [pointer, foreign.view(pointer, size * count)];
    };
    const [token, tokens] = array('int32_t', 4, this.#most);
    const [position, positions] = array('int32_t', 4, this.#most);
    const [count, counts] = array('int32_t', 4, this.#most);
    const [output, outputs] = array('int8_t', 1, this.#most);
    const [sequence, sequences] = array('int32_t', 4, this.#most * options.sequences);
    const [table, addresses] = array('uint64_t', 8, this.#most);
    const start = foreign.address(sequence);
    const entries = new BigUint64Array(addresses);
    for (let index = 0; index < this.#most; index++) entries[index] = start + BigInt(4 * options.sequences * index);
    this.#sequencesEach = options.sequences;
    this.#tokens = new Int32Array(tokens);
    this.#positions = new Int32Array(positions);
    this.#counts = new Int32Array(counts);
    this.#outputs = new Int8Array(outputs);
    this.#sequences = new Int32Array(sequences);
    this.#batch = { n_tokens: 0, token, embd: null, pos: position, n_seq_id: count, seq_id: table, logits: output };
  }

  readonly #sequencesEach: number;

  /** Runs the tokens; the logits of those with `output` can then be read by their index in the batch. */
  decode(batch: readonly BatchToken[]): void {
    if (batch.length > this.#most) throw new Error(`${batch.length} tokens in a batch of ${this.#most}`);
    for (const [index, { token, position, sequences, output }] of batch.entries()) {
      this.#tokens[index] = token;
      this.#positions[index] = position;
      this.#counts[index] = sequences.length;
      this.#outputs[index] = output ? 1 : 0;
      this.#sequences.set(sequences, index * this.#sequencesEach);
    }
    const status = this.#library.call('llama_decode', this.#context, { ...this.#batch, n_tokens: batch.length });
    if (status !== 0) throw new Error(`llama_decode answered ${String(status)}`);
  }

  /** A view of the logits of a token of the last batch; overwritten by the next `decode`. */
  logits(index: number): Float32Array {
    const pointer = this.#library.call('llama_get_logits_ith', this.#context, index) as Pointer;
    return new Float32Array(this.#foreign.view(pointer, 4 * this.#library.vocabularySize));
  }

  sample(sampler: unknown, index: number): number {
    return this.#library.call('llama_sampler_sample', sampler, this.#context, index) as number;
  }

  copySequence(from: number, to: number): void {
    this.#library.call('llama_memory_seq_cp', this.#memory, from, to, -1, -1);
  }

  removeSequence(sequence: number, from = -1): void {
    this.#library.call('llama_memory_seq_rm', this.#memory, sequence, from, -1);
  }

  clear(): void {
    this.#library.call('llama_memory_clear', this.#memory, false);
  }

  free(): void {
    this.#library.call('llama_free', this.#context);
  }
}

function bind(foreign: ForeignFunctions, folder: string): Record<string, (...values: never[]) => unknown> {
  foreign.struct('llama_model_params', {
    devices: 'void *',
    tensor_buft_overrides: 'void *',
    n_gpu_layers: 'int32_t',
    split_mode: 'int',
    load_mode: 'int',
    lazy_mode: 'int',
    main_gpu: 'int32_t',
    tensor_split: 'void *',
    progress_callback: 'void *',
    progress_callback_user_data: 'void *',
    kv_overrides: 'void *',
    vocab_only: 'bool',
    check_tensors: 'bool',
    use_extra_bufts: 'bool',
    no_host: 'bool',
    no_alloc: 'bool',
    load_mtp: 'bool',
  });
  foreign.struct('llama_context_params', {
    n_ctx: 'uint32_t',
    n_batch: 'uint32_t',
    n_ubatch: 'uint32_t',
    n_seq_max: 'uint32_t',
    n_rs_seq: 'uint32_t',
    n_outputs_max: 'uint32_t',
    n_outputs_max_per_seq: 'uint32_t',
    n_threads: 'int32_t',
    n_threads_batch: 'int32_t',
    ctx_type: 'int',
    rope_scaling_type: 'int',
    pooling_type: 'int',
    attention_type: 'int',
    flash_attn_type: 'int',
    rope_freq_base: 'float',
    rope_freq_scale: 'float',
    yarn_ext_factor: 'float',
    yarn_attn_factor: 'float',
    yarn_beta_fast: 'float',
    yarn_beta_slow: 'float',
    yarn_orig_ctx: 'uint32_t',
    defrag_thold: 'float',
    cb_eval: 'void *',
    cb_eval_user_data: 'void *',
    type_k: 'int',
    type_v: 'int',
    abort_callback: 'void *',
    abort_callback_data: 'void *',
    embeddings: 'bool',
    offload_kqv: 'bool',
    no_perf: 'bool',
    op_offload: 'bool',
    swa_full: 'bool',
    kv_unified: 'bool',
    samplers: 'void *',
    n_samplers: 'size_t',
    ctx_other: 'void *',
  });
  foreign.struct('llama_batch', {
    n_tokens: 'int32_t',
    token: 'void *',
    embd: 'void *',
    pos: 'void *',
    n_seq_id: 'void *',
    seq_id: 'void *',
    logits: 'void *',
  });
  foreign.struct('llama_sampler_chain_params', { no_perf: 'bool' });
  const extension = process.platform === 'darwin' ? 'dylib' : 'so';
  const ggml = foreign.load(join(folder, `libggml.v${peerVersion.library}.${extension}`));
  const llama = foreign.load(join(folder, `libllama.v${peerVersion.library}.${extension}`));
  const functions: Record<string, (...values: never[]) => unknown> = {};
  const name = (signature: string): string => /(\w+)\(/.exec(signature)?.[1] as string;
  for (const signature of ['void ggml_backend_load_all_from_path(const char *path)'])
    functions[name(signature)] = ggml.func(signature);
  for (const signature of [
    'void llama_backend_init()',
    'llama_model_params llama_model_default_params()',
    'llama_context_params llama_context_default_params()',
    'void *llama_model_load_from_file(const char *path, llama_model_params params)',
    'void *llama_model_get_vocab(void *model)',
    'int32_t llama_vocab_n_tokens(void *vocab)',
    'void *llama_init_from_model(void *model, llama_context_params params)',
    'void llama_free(void *context)',
    'void *llama_get_memory(void *context)',
    'void llama_memory_clear(void *memory, bool data)',
    'bool llama_memory_seq_rm(void *memory, int32_t sequence, int32_t from, int32_t to)',
    'void llama_memory_seq_cp(void *memory, int32_t source, int32_t target, int32_t from, int32_t to)',
    'int32_t llama_decode(void *context, llama_batch batch)',
    'void *llama_get_logits_ith(void *context, int32_t index)',
    'void *llama_sampler_chain_init(llama_sampler_chain_params params)',
    'void llama_sampler_chain_add(void *chain, void *sampler)',
    'void *llama_sampler_init_grammar(void *vocab, const char *grammar, const char *root)',
    'void *llama_sampler_init_greedy()',
    'int32_t llama_sampler_sample(void *sampler, void *context, int32_t index)',
    'void llama_sampler_free(void *sampler)',
  ])
    functions[name(signature)] = llama.func(signature);
  return functions;
}
