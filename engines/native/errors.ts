import { defineErrors, type CupelError, type ErrorDetail } from '../../src/kit/index.ts';

const restore = 'Copy or download the checkpoint again, or write it again with the tool that made it.';

export const nativeErrors = defineErrors({
  CUPEL_NATIVE_ADDON_MISSING: {
    exit: 2,
    what: 'The compiled part of the native engine is not there.',
    mend: 'Run: npm run prepare (it needs Rust, see https://rustup.rs).',
  },
  CUPEL_NATIVE_ADDON_BROKEN: {
    exit: 2,
    what: 'The compiled part of the native engine is there but does not load on this machine.',
    mend: 'Build it on this machine: npm run prepare.',
  },
  CUPEL_NATIVE_CARGO_MISSING: {
    exit: 2,
    what: 'The native engine has to be compiled, and cargo (Rust) is not installed.',
    mend: 'Install Rust (https://rustup.rs, or your system’s packages rustc and cargo), then run: npm run prepare.',
  },
  CUPEL_NATIVE_BUILD_FAILED: {
    exit: 70,
    what: 'The native engine did not compile.',
    mend: 'Read the compiler’s message above. An old Rust is the usual cause: update it, then run: npm run prepare.',
  },
  CUPEL_NATIVE_CONFIG_INVALID: {
    exit: 2,
    what: 'The config.json of a checkpoint has a value that is absurd or that this engine does not support.',
    mend: 'Use a checkpoint of the Llama, Mistral, Qwen2 or Qwen3 family, or another engine.',
  },
  CUPEL_NATIVE_TENSOR_MISSING: { exit: 2, what: 'A checkpoint lacks a tensor that its config needs.', mend: restore },
  CUPEL_NATIVE_TENSOR_SHAPE: {
    exit: 2,
    what: 'A tensor of a checkpoint has a shape that its config does not give it.',
    mend: restore,
  },
  CUPEL_NATIVE_TENSOR_UNKNOWN: {
    exit: 2,
    what: 'A checkpoint has, or a caller names, a tensor that its architecture does not know.',
    mend: restore,
  },
  CUPEL_NATIVE_TENSOR_NONFINITE: {
    exit: 2,
    what: 'A tensor of a checkpoint holds NaN or infinity.',
    mend: 'The training that wrote it diverged: take an earlier checkpoint, or train with a lower learning rate.',
  },
  CUPEL_NATIVE_SAFETENSORS_TRUNCATED: {
    exit: 2,
    what: 'A safetensors file ends before the data that its header names.',
    mend: restore,
  },
  CUPEL_NATIVE_SAFETENSORS_INVALID: { exit: 2, what: 'A safetensors file breaks the format.', mend: restore },
  CUPEL_NATIVE_GGUF_TRUNCATED: { exit: 2, what: 'A GGUF file ends before the data that it names.', mend: restore },
  CUPEL_NATIVE_GGUF_INVALID: {
    exit: 2,
    what: 'A GGUF file breaks the format, or its values contradict one another.',
    mend: restore,
  },
  CUPEL_NATIVE_TENSOR_TYPE: {
    exit: 2,
    what: 'The weights of a checkpoint have a type that this engine does not read or write.',
    mend: 'Use a checkpoint in F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K.',
  },
  CUPEL_NATIVE_ADAPTER_INVALID: {
    exit: 2,
    what: 'The folder of an adapter is not a LoRA adapter that fits the checkpoint.',
    mend: 'Use a PEFT folder with LoRA matrices of linear layers alone, trained on this base.',
  },
  CUPEL_NATIVE_TOKENIZER_UNSUPPORTED: {
    exit: 2,
    what: 'The tokenizer of a checkpoint has no counterpart in a GGUF file.',
    mend: 'Name the pre-tokenizer with --pre, or keep the checkpoint as a Hugging Face folder.',
  },
  CUPEL_NATIVE_TOKENIZER_MISSING: {
    exit: 2,
    what: 'A checkpoint has no tokenizer.json.',
    mend: 'Save the checkpoint together with its fast tokenizer.',
  },
  CUPEL_NATIVE_TOKENIZER_INVALID: {
    exit: 2,
    what: 'The tokenizer files of a checkpoint can not be used.',
    mend: restore,
  },
  CUPEL_NATIVE_TOKENIZER_MISMATCH: {
    exit: 2,
    what: 'The tokenizer has more tokens than the model has embeddings.',
    mend: 'Use the tokenizer that the checkpoint was trained with.',
  },
  CUPEL_NATIVE_TEMPLATE_MISSING: {
    exit: 2,
    what: 'Messages were given to a checkpoint without a chat template.',
    mend: 'Add chat_template.jinja to the checkpoint, or give the prompt as text.',
  },
  CUPEL_NATIVE_TEMPLATE_INVALID: { exit: 2, what: 'The chat template of a checkpoint is not valid.', mend: restore },
  CUPEL_NATIVE_TEMPLATE_FAILED: {
    exit: 2,
    what: 'The chat template refused the messages.',
    mend: 'Give messages in the order and with the roles that the template accepts.',
  },
  CUPEL_NATIVE_SCHEMA_UNSUPPORTED: {
    exit: 2,
    what: 'A JSON schema has a keyword that can not be enforced while decoding.',
    mend: 'Take the keyword out of the schema, and check it with a validator after decoding.',
  },
  CUPEL_NATIVE_GRAMMAR_UNSUPPORTED: {
    exit: 2,
    what: 'A regular expression or grammar has a part that can not be enforced while decoding, or is not valid.',
    mend: 'Mend or take out the part that is named.',
  },
  CUPEL_NATIVE_TOOLS_UNSUPPORTED: {
    exit: 2,
    what: 'Tool definitions were given; this engine returns text and parses no tool calls.',
    mend: 'Describe the tools in the system message, and parse the calls from the text.',
  },
  CUPEL_NATIVE_CONTEXT_OVERFLOW: {
    exit: 2,
    what: 'Prompt and completion together are longer than the context of the checkpoint.',
    mend: 'Shorten the prompt, or ask for fewer tokens.',
  },
  CUPEL_NATIVE_TOKEN_OUT_OF_RANGE: {
    exit: 2,
    what: 'A token id is outside the vocabulary.',
    mend: 'Tokenize with the tokenizer of the same checkpoint.',
  },
  CUPEL_NATIVE_REQUEST_INVALID: {
    exit: 2,
    what: 'A request has a value that can not be.',
    mend: 'Give the value the type and range that are named.',
  },
  CUPEL_NATIVE_KV_BUDGET: {
    exit: 2,
    what: 'A request needs more keys and values than the cache can ever hold.',
    mend: 'Raise kvCacheBytes, shorten the prompt, or ask for fewer tokens.',
  },
  CUPEL_NATIVE_BATCH_INVALID: {
    exit: 2,
    what: 'A batch for training does not fit together.',
    mend: 'Check tokens, offsets and labels against each other.',
  },
  CUPEL_NATIVE_CONSTRAINT_FAILED: {
    exit: 2,
    what: 'A schema or grammar led decoding to a place where no token may follow, or past the limits of its parser.',
    mend: 'Simplify the schema or grammar.',
  },
  CUPEL_NATIVE_OUTPUT_NONFINITE: {
    exit: 2,
    what: 'The model computed NaN or infinity.',
    mend: 'The checkpoint is broken or its training diverged: take an earlier one.',
  },
  CUPEL_NATIVE_GRADIENT_NONFINITE: {
    exit: 2,
    what: 'A gradient is NaN or infinite.',
    mend: 'Lower the learning rate, or look for a broken loss.',
  },
  CUPEL_NATIVE_STATE_INVALID: {
    exit: 2,
    what: 'A saved optimiser state does not belong to this model, or is damaged.',
    mend: 'Resume from the state that this run saved, or start again.',
  },
  CUPEL_NATIVE_CLOSED: {
    exit: 70,
    what: 'A model or learner was used after it had been closed.',
    mend: 'Open it again.',
  },
  CUPEL_NATIVE_CANCELLED: { exit: 70, what: 'Work of the native engine was cancelled.', mend: 'Start it again.' },
  CUPEL_NATIVE_IO: {
    exit: 2,
    what: 'A file of a checkpoint could not be read or written.',
    mend: 'Check path, permissions and free space.',
  },
  CUPEL_NATIVE_INTERNAL: {
    exit: 70,
    what: 'The native engine met a defect of its own.',
    mend: 'Report this with the command you ran and the checkpoint’s config.json.',
  },
});

/** An error as the addon tells it. */
export interface Fault {
  readonly code: string;
  readonly message: string;
  readonly place?: string | null | undefined;
  readonly remedy?: string | null | undefined;
}

/** The coded error of a fault; an unknown code becomes CUPEL_NATIVE_INTERNAL with the code in its message. */
export function toCupelError(fault: Fault): CupelError {
  const detail: ErrorDetail = {
    message: fault.message,
    ...(fault.place ? { where: fault.place } : {}),
    ...(fault.remedy ? { remedy: fault.remedy } : {}),
  };
  if (Object.hasOwn(nativeErrors.definitions, fault.code)) {
    return nativeErrors[fault.code as keyof typeof nativeErrors.definitions](detail);
  }
  return nativeErrors.CUPEL_NATIVE_INTERNAL({ ...detail, message: `${fault.code}: ${fault.message}` });
}

/** Runs a synchronous call of the addon: its exceptions carry a fault as JSON. */
export function unwrap<T>(call: () => T): T {
  try {
    return call();
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    let fault: Fault;
    try {
      fault = JSON.parse(text) as Fault;
    } catch {
      fault = { code: 'CUPEL_NATIVE_INTERNAL', message: text };
    }
    throw toCupelError(fault);
  }
}
