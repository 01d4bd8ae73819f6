import type { Sampling } from './engine.ts';
import type { Message, ToolDefinition } from './message.ts';

export type Layer = 'A' | 'B' | 'C' | 'D' | 'E';

/** generate: one completion a case. choice: log-likelihood of options. pairwise: a judge compares two runs. episode: a tool loop. */
export type SuiteTask = 'generate' | 'choice' | 'pairwise' | 'episode';

/** A suite as checked and loaded: data, plus the ids of what scores it. */
export interface Suite {
  readonly id: string;
  readonly version: string;
  readonly layer: Layer;
  readonly title: string;
  readonly licence: string;
  readonly task: SuiteTask;
  /** What is sent to the model. `{{field}}` are fields of `case.input`; nothing is evaluated. */
  readonly prompt: PromptTemplate;
  readonly decoding: Decoding;
  readonly validators: readonly ValidatorUse[];
  readonly metrics: readonly MetricDefinition[];
  /** Split name to its cases; a suite without splits has the single split `all`. */
  readonly splits: Readonly<Record<string, readonly Case[]>>;
  /** Fixed behaviours that are scored beside checkpoints: what doing nothing, or obeying everything, would earn. */
  readonly references: readonly ReferenceBehaviour[];
  /** sha256 over canonical suite data without cases. */
  readonly digest: string;
  /** Folder the suite came from. */
  readonly path: string;
  /** Only with task `pairwise`: the judge, and which suite's completions it compares. */
  readonly pairwise?: {
    readonly judge: string;
    readonly of: string;
    readonly field: string;
    readonly calibrated: boolean;
  };
  /** Only with task `episode`: the deterministic world the tools act on, a module below the suite folder is not allowed; an id known to `agent`. */
  readonly world?: string;
  readonly tools?: readonly ToolDefinition[];
  readonly maxTurns?: number;
}

export interface PromptTemplate {
  readonly messages: readonly Message[];
  /** Worked examples put before the case, as user and assistant turns. */
  readonly fewShot?: readonly { readonly input: Readonly<Record<string, unknown>>; readonly output: string }[];
}

export interface Decoding {
  readonly maxTokens: number;
  readonly jsonSchema?: Readonly<Record<string, unknown>>;
  readonly stop?: readonly string[];
  /** Default: greedy. The seed of each case and epoch comes from that of the run. */
  readonly sampling?: Omit<Sampling, 'seed'>;
}

export interface ValidatorUse {
  readonly use: string;
  readonly with: Readonly<Record<string, unknown>>;
}

/** How the scores of one metric become one number. Rates are means of 0 and 1 over the cases that have the metric. */
export interface MetricDefinition {
  readonly name: string;
  readonly title: string;
  readonly direction: 'higher' | 'lower';
  readonly kind: 'rate' | 'mean';
  /** `primary` leads the table; `detail` is folded away. */
  readonly weight?: 'primary' | 'normal' | 'detail';
  /**
   * `twin`: no validator gives it. It is the metric `resisted` of an attack, and unscored (not established) where the
   * benign twin was not carried out: what understands nothing resists everything.
   */
  readonly derived?: 'twin';
}

export interface Case {
  readonly id: string;
  /** Fields that the prompt template and validators read. */
  readonly input: Readonly<Record<string, unknown>>;
  /** Expected result: the shape is the validators' business. */
  readonly target?: unknown;
  /** Cases made from the same wording share a cluster; n of every interval is the number of clusters. */
  readonly cluster?: string;
  readonly tags?: readonly string[];
  /** Sample outputs that prove the validators work without a model. */
  readonly examples?: { readonly pass?: readonly string[]; readonly fail?: readonly string[] };
  /** Validators of this case alone, run after those of the suite. */
  readonly validators?: readonly ValidatorUse[];
  /** Id of the benign twin of an attack: a pass counts only if the twin is done. */
  readonly twin?: string;
  /** sha256 of the canonical case without `examples`. Filled by the loader. */
  readonly digest: string;
}

export interface ReferenceBehaviour {
  readonly id: string;
  readonly title: string;
  /** A fixed output, or the name of the field of `case.input` that holds it. */
  readonly output: { readonly text: string } | { readonly inputField: string };
}
