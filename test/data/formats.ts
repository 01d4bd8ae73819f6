import type { RowContent, RowFormat } from '../../src/data/readers/row-reader.ts';

const user = { role: 'user', content: 'Where is it?' } as const;
const assistant = { role: 'assistant', content: 'Here.' } as const;
const system = { role: 'system', content: 'Be brief.' } as const;
const tool = { name: 'find', description: 'Finds a parcel.', parameters: { type: 'object', properties: {} } };
const call = { id: 'c1', name: 'find', arguments: { parcel: 3 } };

/** A line of each format, and the row that it is. */
export const formats: readonly (readonly [name: string, format: RowFormat, line: object, row: RowContent])[] = [
  ['TRL language modelling', 'text', { text: 'Once.' }, { kind: 'text', text: 'Once.' }],
  ['TRL conversation', 'messages', { messages: [user, assistant] }, { kind: 'messages', messages: [user, assistant] }],
  [
    'TRL prompt and completion, texts',
    'prompt-completion',
    { prompt: 'Where is it?', completion: 'Here.' },
    { kind: 'messages', messages: [user, assistant] },
  ],
  [
    'TRL prompt and completion, messages: answers of the prompt are not trained',
    'prompt-completion',
    { prompt: [user, assistant, user], completion: [assistant, user, assistant] },
    { kind: 'messages', messages: [user, { ...assistant, weight: 0 }, user, assistant, user, assistant] },
  ],
  [
    'TRL preference, texts',
    'preference',
    { prompt: 'Where is it?', chosen: 'Here.', rejected: 'No.' },
    { kind: 'preference', prompt: [user], chosen: 'Here.', rejected: 'No.' },
  ],
  [
    'TRL preference, messages',
    'preference',
    { prompt: [system, user], chosen: [assistant], rejected: [{ role: 'assistant', content: 'No.' }] },
    { kind: 'preference', prompt: [system, user], chosen: 'Here.', rejected: 'No.' },
  ],
  [
    'TRL preference with implicit prompt, messages',
    'implicit-preference',
    { chosen: [user, assistant], rejected: [user, { role: 'assistant', content: 'No.' }] },
    { kind: 'preference', prompt: [user], chosen: 'Here.', rejected: 'No.' },
  ],
  [
    'TRL preference with implicit prompt, texts',
    'implicit-preference',
    { chosen: 'The sky is blue.', rejected: 'The sky is black.' },
    { kind: 'preference', prompt: [{ role: 'user', content: 'The sky is' }], chosen: 'blue.', rejected: 'black.' },
  ],
  [
    'TRL unpaired preference',
    'unpaired',
    { prompt: 'Where is it?', completion: [assistant], label: false },
    { kind: 'labelled', prompt: [user], answer: 'Here.', desirable: false },
  ],
  [
    'TRL conversation with tools as bare functions',
    'messages',
    { messages: [user, assistant], tools: [tool], chat_template_kwargs: {} },
    { kind: 'messages', messages: [user, assistant], tools: [tool] },
  ],
  [
    'Alpaca',
    'alpaca',
    { instruction: 'Translate.', input: 'Hallo', output: 'Hello', system: 'Be brief.', history: [['Hi', 'Ho']] },
    {
      kind: 'messages',
      messages: [
        system,
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: 'Ho' },
        { role: 'user', content: 'Translate.\nHallo' },
        { role: 'assistant', content: 'Hello' },
      ],
    },
  ],
  [
    'Alpaca preference',
    'alpaca-preference',
    { instruction: 'Where is it?', input: '', chosen: 'Here.', rejected: 'No.' },
    { kind: 'preference', prompt: [user], chosen: 'Here.', rejected: 'No.' },
  ],
  [
    'Alpaca, judged',
    'alpaca-unpaired',
    { instruction: 'Where is it?', output: 'Here.', kto_tag: true },
    { kind: 'labelled', prompt: [user], answer: 'Here.', desirable: true },
  ],
  [
    'ShareGPT',
    'sharegpt',
    {
      conversations: [
        { from: 'human', value: 'Where is it?' },
        { from: 'gpt', value: 'Here.' },
      ],
      system: 'Be brief.',
    },
    { kind: 'messages', messages: [system, user, assistant] },
  ],
  [
    'ShareGPT with tools',
    'sharegpt',
    {
      conversations: [
        { from: 'system', value: 'Be brief.' },
        { from: 'human', value: 'Where is it?' },
        { from: 'function_call', value: '{"name": "find", "arguments": {"parcel": 3}}' },
        { from: 'observation', value: 'shelf 9' },
        { from: 'gpt', value: 'Here.' },
      ],
      tools: JSON.stringify([tool]),
    },
    {
      kind: 'messages',
      messages: [
        system,
        user,
        { role: 'assistant', content: '', toolCalls: [{ ...call, id: '' }] },
        { role: 'tool', content: 'shelf 9', name: 'find' },
        assistant,
      ],
      tools: [tool],
    },
  ],
  [
    'ShareGPT preference',
    'sharegpt-preference',
    {
      conversations: [{ from: 'human', value: 'Where is it?' }],
      chosen: { from: 'gpt', value: 'Here.' },
      rejected: { from: 'gpt', value: 'No.' },
    },
    { kind: 'preference', prompt: [user], chosen: 'Here.', rejected: 'No.' },
  ],
  [
    'ShareGPT, judged',
    'sharegpt-unpaired',
    {
      conversations: [
        { from: 'human', value: 'Where is it?' },
        { from: 'gpt', value: 'Here.' },
      ],
      kto_tag: true,
    },
    { kind: 'labelled', prompt: [user], answer: 'Here.', desirable: true },
  ],
  [
    'OpenAI chat with weights',
    'messages',
    { messages: [user, { ...assistant, weight: 0 }, user, { ...assistant, weight: 1 }] },
    { kind: 'messages', messages: [user, { ...assistant, weight: 0 }, user, { ...assistant, weight: 1 }] },
  ],
  [
    'OpenAI chat with tools',
    'messages',
    {
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: 'Where ' },
            { type: 'text', text: 'is it?' },
          ],
        },
        {
          role: 'assistant',
          content: null,
          tool_calls: [{ id: 'c1', type: 'function', function: { name: 'find', arguments: '{"parcel": 3}' } }],
        },
        { role: 'tool', tool_call_id: 'c1', content: 'shelf 9' },
        assistant,
      ],
      tools: [{ type: 'function', function: tool }],
      parallel_tool_calls: true,
    },
    {
      kind: 'messages',
      messages: [
        user,
        { role: 'assistant', content: '', toolCalls: [call] },
        { role: 'tool', content: 'shelf 9', name: 'find' },
        assistant,
      ],
      tools: [tool],
    },
  ],
  [
    'OpenAI preference',
    'openai-preference',
    {
      input: { messages: [user], tools: [], parallel_tool_calls: true },
      preferred_output: [assistant],
      non_preferred_output: [{ role: 'assistant', content: 'No.' }],
    },
    { kind: 'preference', prompt: [user], chosen: 'Here.', rejected: 'No.' },
  ],
  [
    'ms-swift preference',
    'messages-preference',
    { messages: [user, assistant], rejected_response: 'No.' },
    { kind: 'preference', prompt: [user], chosen: 'Here.', rejected: 'No.' },
  ],
  [
    'ms-swift, judged',
    'messages-unpaired',
    { messages: [user, assistant], label: true },
    { kind: 'labelled', prompt: [user], answer: 'Here.', desirable: true },
  ],
];
