// The official JavaScript client, unmodified, against the gateway named by the environment.
// Started by tests/e2e/test_openai_node.py, which reads one verdict per test.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';

const { BASE_URL, API_KEY, MODEL, TEXT } = process.env; // TEXT is set only where a script answers
const client = new OpenAI({ baseURL: BASE_URL, apiKey: API_KEY, maxRetries: 0, timeout: 60_000 });
const messages = [{ role: 'user', content: 'Say hello in one short sentence.' }];
const weather = [{ role: 'user', content: 'What is the weather in Paris? Use the tool.' }];
const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };

function assertSpeaks(text) {
  assert.ok(text);
  if (TEXT) assert.equal(text, TEXT);
}

test('create', async () => {
  const answer = await client.chat.completions.create({ model: MODEL, messages, max_tokens: 24, temperature: 0 });
  assertSpeaks(answer.choices[0].message.content);
  assert.ok(answer.usage.total_tokens > 0);
  assert.ok(answer._request_id);
});

test('server-sent events', async () => {
  const options = { include_usage: true };
  const chunks = [];
  const stream = await client.chat.completions.create({ model: MODEL, messages, max_tokens: 24, temperature: 0, stream: true, stream_options: options });
  for await (const chunk of stream) chunks.push(chunk);
  assertSpeaks(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''));
  assert.ok(chunks.at(-1).usage.completion_tokens > 0);
});

test('stream helper', async () => {
  const stream = client.chat.completions.stream({ model: MODEL, messages, max_tokens: 24, temperature: 0 });
  let heard = '';
  stream.on('content', (piece) => { heard += piece; });
  assertSpeaks((await stream.finalChatCompletion()).choices[0].message.content);
  assertSpeaks(heard);
});

test('runTools', async () => {
  const asked = [];
  const get_weather = (input) => { asked.push(JSON.parse(input)); return '18 degrees, sunny'; };
  const tools = [{ type: 'function', function: { name: 'get_weather', description: 'The weather in a city.', parameters, function: get_weather } }];
  const runner = client.chat.completions.runTools({ model: MODEL, messages: weather, tools, max_tokens: 80, temperature: 0 });
  assertSpeaks(await runner.finalContent());
  assert.equal(asked.length, 1);
  assert.ok('city' in asked[0]);
});

test('abort', async () => {
  const stream = await client.chat.completions.create({ model: MODEL, messages, max_tokens: 400, temperature: 0, stream: true });
  let chunks = 0;
  for await (const _ of stream) { chunks += 1; stream.controller.abort(); }
  assert.ok(chunks >= 1);
});

test('error class', async () => {
  const stranger = new OpenAI({ baseURL: BASE_URL, apiKey: 'not-a-key-at-all', maxRetries: 0 });
  await assert.rejects(stranger.chat.completions.create({ model: MODEL, messages }), (error) => error instanceof OpenAI.AuthenticationError && error.code === 'invalid_api_key');
  await assert.rejects(client.chat.completions.create({ model: 'no-such-model', messages }), (error) => error instanceof OpenAI.NotFoundError && error.code === 'model_not_found');
});

test('embeddings', async () => {
  const answer = await client.embeddings.create({ model: MODEL, input: ['a cat', 'a dog'] });
  assert.equal(answer.data.length, 2);
  assert.ok(answer.data[0].embedding.length >= 8);
  assert.ok(answer.data[0].embedding.every(Number.isFinite));
});

test('models', async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes(MODEL));
  assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
});
