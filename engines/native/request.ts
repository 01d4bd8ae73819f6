import type {
  DecodingConstraint,
  GenerateRequest,
  Message,
  Sampling,
  ScoreRequest,
  ToolDefinition,
} from '../../src/contracts/index.ts';
import type { GrammarInput, PromptInput, SamplingInput, ScoreInput } from './addon.ts';
import { nativeErrors } from './errors.ts';

/** A request as the addon takes it. @throws CUPEL_NATIVE_REQUEST_INVALID, CUPEL_NATIVE_TOOLS_UNSUPPORTED */
export function promptInput(request: GenerateRequest): PromptInput {
  const { id, prompt, maxTokens, sampling, jsonSchema, grammar, adapter, stop = [] } = request;
  check(isWhole(maxTokens, 1, 2 ** 31), `${id}: maxTokens`, maxTokens, 'a whole number from 1');
  if ('messages' in prompt && prompt.tools !== undefined && prompt.tools.length > 0) {
    throw nativeErrors.CUPEL_NATIVE_TOOLS_UNSUPPORTED({
      message: `${prompt.tools.length} tools were given`,
      where: `${id}: prompt.tools`,
    });
  }
  return {
    ...('messages' in prompt
      ? { messages: JSON.stringify(prompt.messages.map(templateMessage)) }
      : 'ids' in prompt
        ? { ids: tokenIds(prompt.ids, `${id}: prompt.ids`) }
        : { text: prompt.text }),
    maxTokens,
    stop,
    grammar: grammarInput(
      { ...(jsonSchema === undefined ? {} : { jsonSchema }), ...(grammar === undefined ? {} : { grammar }) },
      id,
    ),
    ...(sampling === undefined ? {} : { sampling: samplingInput(sampling, `${id}: sampling`) }),
    ...(adapter === undefined ? {} : { adapter }),
  };
}

/** What decoding is held to, as the addon takes it. @throws CUPEL_NATIVE_REQUEST_INVALID where there are two */
export function grammarInput({ jsonSchema, grammar }: DecodingConstraint, id: string): GrammarInput {
  if (jsonSchema !== undefined && grammar !== undefined) {
    throw nativeErrors.CUPEL_NATIVE_REQUEST_INVALID({
      message: 'jsonSchema and grammar were both given',
      where: `${id}: grammar`,
      remedy: 'Give one of them.',
    });
  }
  // Not canonical JSON: the order of the properties is the order of the keys in the completion.
  return jsonSchema === undefined ? { ...grammar } : { schema: JSON.stringify(jsonSchema) };
}

/** A pair as the addon takes it. @throws CUPEL_NATIVE_REQUEST_INVALID */
export function scoreInput(request: ScoreRequest, index: number): ScoreInput {
  const adapter = request.adapter === undefined ? {} : { adapter: request.adapter };
  if ('context' in request) return { context: request.context, continuation: request.continuation, ...adapter };
  return {
    contextIds: tokenIds(request.contextIds, `requests[${index}].contextIds`),
    continuationIds: tokenIds(request.continuationIds, `requests[${index}].continuationIds`),
    ...adapter,
  };
}

function samplingInput(sampling: Sampling, where: string): SamplingInput {
  const { temperature, topK, topP, minP, repetitionPenalty, presencePenalty, frequencyPenalty, logitBias, seed } =
    sampling;
  const within = (name: string, value: number | undefined, least: number, most: number): void =>
    check(value === undefined || (value >= least && value <= most), `${where}.${name}`, value, `${least} to ${most}`);
  const aboveZero = (name: string, value: number | undefined, most: number): void =>
    check(value === undefined || (value > 0 && value <= most), `${where}.${name}`, value, `above 0, to ${most}`);
  check(temperature >= 0 && temperature <= 100, `${where}.temperature`, temperature, '0 to 100');
  check(topK === undefined || isWhole(topK, 1, 2 ** 31), `${where}.topK`, topK, 'a whole number from 1');
  aboveZero('topP', topP, 1);
  within('minP', minP, 0, 1);
  aboveZero('repetitionPenalty', repetitionPenalty, 100);
  within('presencePenalty', presencePenalty, -100, 100);
  within('frequencyPenalty', frequencyPenalty, -100, 100);
  check(
    seed === undefined || isWhole(seed, 0, Number.MAX_SAFE_INTEGER),
    `${where}.seed`,
    seed,
    'a whole number from 0',
  );
  const biases = Object.entries(logitBias ?? {}).map(([token, bias]) => {
    check(
      /^(0|[1-9]\d*)$/.test(token) && isWhole(Number(token), 0, 2 ** 32 - 1),
      `${where}.logitBias`,
      token,
      'token ids as keys',
    );
    within(`logitBias.${token}`, bias, -1000, 1000);
    return { token: Number(token), bias };
  });
  return {
    temperature,
    ...(topK === undefined ? {} : { topK }),
    ...(topP === undefined ? {} : { topP }),
    ...(minP === undefined ? {} : { minP }),
    ...(repetitionPenalty === undefined ? {} : { repetitionPenalty }),
    ...(presencePenalty === undefined ? {} : { presencePenalty }),
    ...(frequencyPenalty === undefined ? {} : { frequencyPenalty }),
    ...(biases.length === 0 ? {} : { logitBias: biases }),
    ...(seed === undefined ? {} : { seed }),
  };
}

/** Beyond 32 bits the addon would take them for other ids. The vocabulary is the engine's to check. */
export function tokenIds(ids: readonly number[], where: string): readonly number[] {
  const wrong = ids.findIndex((id) => !isWhole(id, 0, 2 ** 32 - 1));
  check(wrong < 0, `${where}[${wrong}]`, ids[wrong], 'a token id');
  return ids;
}

function isWhole(value: number, least: number, most: number): boolean {
  return Number.isSafeInteger(value) && value >= least && value <= most;
}

function check(holds: boolean, where: string, seen: unknown, expected: string): void {
  if (holds) return;
  throw nativeErrors.CUPEL_NATIVE_REQUEST_INVALID({
    message: `${where.slice(where.lastIndexOf(' ') + 1)} is ${String(seen)}; ${expected} was expected`,
    where,
  });
}

/** A message as the chat templates of Hugging Face models read it. */
export function templateMessage(message: Message): Record<string, unknown> {
  const { role, content, name, toolCalls } = message;
  return {
    role,
    content,
    ...(name === undefined ? {} : { name }),
    ...(toolCalls === undefined || toolCalls.length === 0
      ? {}
      : {
          tool_calls: toolCalls.map((call) => ({
            id: call.id,
            type: 'function',
            function: { name: call.name, arguments: call.arguments },
          })),
        }),
  };
}

export function templateTool(tool: ToolDefinition): Record<string, unknown> {
  return {
    type: 'function',
    function: { name: tool.name, description: tool.description, parameters: tool.parameters },
  };
}
