// Shades the tokens of every document by the share of the chosen heads that kept them.
"use strict";
for (const view of document.querySelectorAll(".view")) {
  const data = JSON.parse(view.querySelector("script[type='application/json']").textContent);
  const n = data.tokens.length, bytesPerHead = Math.ceil(n / 8);
  const [press, layer, head] = view.querySelectorAll("select");
  const text = view.querySelector(".document"), told = view.querySelector(".told");
  const spans = data.tokens.map((token, i) => {
    const span = document.createElement("span");
    span.textContent = token;
    text.append(span);
    return span;
  });
  const option = (select, value, label) => select.add(new Option(label, value));
  data.kept.forEach((k, i) => option(press, i, `${k.press}, ${Math.round(100 * k.compression_ratio)} % removed`));
  option(layer, -1, "all layers");
  for (let l = 0; l < data.n_layer; ++l) option(layer, l, `layer ${l}`);
  option(head, -1, "all KV heads");
  for (let h = 0; h < data.n_head_kv; ++h) option(head, h, `KV head ${h}`);
  const bits = data.kept.map((k) => Uint8Array.from(atob(k.bits), (c) => c.charCodeAt(0)));

  const draw = () => {
    const of = bits[press.value], counts = new Uint32Array(n);
    let heads = 0, kept = 0;
    for (let l = 0; l < data.n_layer; ++l) {
      for (let h = 0; h < data.n_head_kv; ++h) {
        if ((layer.value >= 0 && l != layer.value) || (head.value >= 0 && h != head.value)) continue;
        const at = (l * data.n_head_kv + h) * bytesPerHead;
        ++heads;
        for (let i = 0; i < n; ++i) {
          const bit = (of[at + (i >> 3)] >> (i & 7)) & 1;
          counts[i] += bit;
          kept += bit;
        }
      }
    }
    spans.forEach((span, i) => {
      span.style.setProperty("--s", (counts[i] / heads).toFixed(3));
      span.title = `token ${i}: kept by ${counts[i]} of ${heads}`;
    });
    const nowhere = counts.reduce((sum, c) => sum + (c === 0), 0);
    told.textContent = `${press.selectedOptions[0].text}: ${n} tokens; ${heads} heads keep ${Math.round(kept / heads)} each on average; ` +
        `${nowhere} tokens are kept by none of them.`;
  };
  for (const select of [press, layer, head]) select.addEventListener("change", draw);
  draw();
}
