"""Makes the files beside it: python make.py OUT_FOLDER TEXT_FILE, with `pip install tokenizers`."""
import json, os, struct, sys
from tokenizers import Tokenizer, models, normalizers as N, pre_tokenizers as P, decoders as D, trainers, Regex, AddedToken
import tokenizers
out = sys.argv[1]
STR = ["", " ", "  two  spaces  ", "\n\n", "\t tab\t\ttabs", "line one\r\nline two\r\n", " leading and trailing ", "Hello, world!",
 "I'm you're we've DON'T", "1 12 123 1234 12345 3.14159 1,000,000 0x1F", "½ ² Ⅷ ١٢٣ ①", "!!! ??? ... --- *** ((( )))", "a_b-c/d\\e|f~g`h^i@j#k",
 "x->y[0] != 3 && !z;", "CamelCase snake_case", "naïve café résumé Ångström", "nai\u0308ve cafe\u0301", "straße STRASSE İstanbul ı ΑΣ", "Привет, мир! в²",
 "你好，世界。", "안녕하세요 \u1100\u1161", "नमस्ते", "สวัสดี", "😀😂 👩‍💻 🇩🇪 ❤️", "“quotes” ‘single’ — dash …", "no\u00a0break\u2003em\u200bzero\u3000wide",
 "ﬁ ﷺ ｆｕｌｌ ①②", "\x01\x02\x7f control", "<s> </s> <unk> x<extra> y", "▁ the mark ▁▁ of", "aaaaaaaaaaaaaaa", "word          word", "Å\u0323\u0307 q\u0307\u0323", "Ünï-cödé 42nd 3rd"]
TEXT = [s for s in STR] + open(sys.argv[2]).read()[:60000].split('\n')
def emit(name, tok):
    cases = []
    for s in STR:
        e = tok.encode(s, add_special_tokens=False)
        cases.append({"text": s, "ids": e.ids, "decoded": tok.decode(e.ids, skip_special_tokens=False)})
    root = json.loads(tok.to_str())
    json.dump({"made_with": "tokenizers " + tokenizers.__version__, "tokenizer": root, "cases": cases}, open(f"{out}/{name}.json", "w"), ensure_ascii=False, separators=(",", ":"))
SPECIAL = [AddedToken("<s>", special=True, normalized=False), AddedToken("</s>", special=True, normalized=False)]
def bpe(norm, pre, dec, byte_level, size=420, fuse=False, unk=None, bf=False, seed_bytes=False):
    t = Tokenizer(models.BPE(unk_token=unk, fuse_unk=fuse, byte_fallback=bf))
    if norm: t.normalizer = norm
    if pre: t.pre_tokenizer = pre
    sp = ([unk] if unk else []) + (["<0x%02X>" % i for i in range(256)] if bf else [])
    tr = trainers.BpeTrainer(vocab_size=size + len(sp), special_tokens=sp, initial_alphabet=P.ByteLevel.alphabet() if byte_level else [], **({} if byte_level else {"limit_alphabet": 80}), show_progress=False)
    t.train_from_iterator(TEXT, tr)
    if bf:  # byte tokens are of the model, not added
        r = json.loads(t.to_str()); r["added_tokens"] = [a for a in r["added_tokens"] if not a["content"].startswith("<0x")]; t = Tokenizer.from_str(json.dumps(r))
    t.decoder = dec
    t.add_special_tokens(SPECIAL)
    t.add_tokens([AddedToken("<extra>", lstrip=True, normalized=False)])
    return t
def unigram(norm, pre, dec, bf=False, size=320):
    t = Tokenizer(models.Unigram())
    if norm: t.normalizer = norm
    if pre: t.pre_tokenizer = pre
    tr = trainers.UnigramTrainer(vocab_size=size, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    t.train_from_iterator(TEXT, tr)
    r = json.loads(t.to_str())
    r["model"]["vocab"] = [[a, struct.unpack('f', struct.pack('f', s))[0]] for a, s in r["model"]["vocab"]]
    if bf:
        r["model"]["vocab"] += [["<0x%02X>" % i, 0.0] for i in range(256)]; r["model"]["byte_fallback"] = True
        n = len(r["model"]["vocab"])
    t = Tokenizer.from_str(json.dumps(r))
    t.decoder = dec
    t.add_special_tokens(SPECIAL)
    return t
def charsmap(rules):
    # a double array by first fit, as Darts reads it
    keys = sorted((k.encode(), v) for k, v in rules.items())
    blob = b""; pos = {}
    for _, v in keys:
        if v not in pos: pos[v] = len(blob); blob += v.encode() + b"\0"
    trie = {}
    for k, v in keys:
        n = trie
        for b in k: n = n.setdefault(b, {})
        n[None] = pos[v]
    units = {0: 0}; used = {0}
    def place(node, at):
        labels = [0 if b is None else b for b in node]
        base = 1
        while True:
            off = at ^ base
            if off < (1 << 21) and all((base ^ l) not in used for l in labels) : break
            base += 1
        for l in labels: used.add(base ^ l)
        units[at] = units.get(at, 0) | (off << 10) | (0x100 if None in node else 0)
        for b, child in node.items():
            if b is None: units[base] = 0x80000000 | child
        for b, child in node.items():
            if b is not None:
                units[base ^ b] = units.get(base ^ b, 0) | b
                place(child, base ^ b)
    place(trie, 0)
    n = (max(units) | 255) + 1
    arr = struct.pack("<%dI" % n, *[units.get(i, 0) for i in range(n)])
    return struct.pack("<I", len(arr)) + arr + blob
SP = Regex(" {2,}")
meta = lambda scheme="always", split=True: P.Metaspace(replacement="▁", prepend_scheme=scheme, split=split)
dmeta = lambda scheme="always": D.Metaspace(replacement="▁", prepend_scheme=scheme)
rules = {"\u00a0": " ", "\t": " ", "\n": " ", "\u2003": " ", "\u3000": " ", "ﬁ": "fi", "①": "1", "½": "1⁄2", "\u200b": "", "e\u0301": "é", "ﷺ": "صلى الله", "İ": "I", "A": "a", "Å": "Å"}
cm = charsmap(rules)
V = {
 "gemma": lambda: bpe(N.Replace(" ", "▁"), P.Split(" ", "merged_with_previous"), D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse()]), False, fuse=True, unk="<unk>", bf=True),
 "falcon": lambda: bpe(None, P.Sequence([P.Punctuation("contiguous"), P.ByteLevel(False, use_regex=True), P.Digits(False), P.Split(Regex("[0-9][0-9][0-9]"), "isolated")]), D.ByteLevel(), True),
 "t5": lambda: unigram(N.Sequence([N.Precompiled(cm), N.Strip(left=False, right=True), N.Replace(SP, "▁")]), meta(), dmeta()),
 "unigram_fallback": lambda: unigram(N.Sequence([N.Precompiled(cm), N.Replace(SP, " ")]), meta("first", False), D.Sequence([D.ByteFallback(), D.Metaspace("▁", "first")]), bf=True),
 "unigram_plain": lambda: unigram(None, P.Metaspace("▁", "always", False), D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)])),
 "nfkc_lower": lambda: bpe(N.Sequence([N.NFKC(), N.Lowercase(), N.StripAccents()]), P.Sequence([P.Digits(True), P.ByteLevel(True)]), D.ByteLevel(), True),
 "nfd_marks": lambda: bpe(N.Sequence([N.NFD(), N.StripAccents(), N.Strip()]), P.Sequence([P.Whitespace(), P.ByteLevel(False, use_regex=False)]), D.ByteLevel(), True),
 "nfkd": lambda: bpe(N.NFKD(), P.ByteLevel(False), D.ByteLevel(), True),
 "whitespace_split": lambda: bpe(N.Sequence([N.Replace(Regex("[aeiou]+(?=n)"), "*"), N.Prepend("_")]), P.Sequence([P.WhitespaceSplit(), P.ByteLevel(False, use_regex=False)]), D.Sequence([D.Replace("Ġ", "_"), D.ByteLevel()]), True),
 "unk_not_fused": lambda: bpe(None, P.Sequence([P.Whitespace(), P.Punctuation("merged_with_previous")]), D.Fuse(), False, unk="<unk>", fuse=False),
 "metaspace_words": lambda: bpe(N.NFC(), P.Sequence([meta("first"), P.Split("-", "merged_with_next")]), D.Sequence([D.Metaspace("▁", "first"), D.Strip("?", 2, 0)]), False, unk="<unk>", fuse=True),
 "byte_normalizer": lambda: bpe(N.Sequence([N.NFC(), N.ByteLevel()]), P.Split(Regex("Ġ?[a-z]+|[0-9]{1,2}"), "isolated"), D.ByteLevel(), True),
}
for i, (b, inv) in enumerate([("removed", False), ("removed", True), ("merged_with_previous", False), ("merged_with_previous", True), ("merged_with_next", False), ("merged_with_next", True), ("contiguous", False), ("contiguous", True), ("isolated", True)]):
    V[f"split_{b}{'_inverted' if inv else ''}"] = lambda b=b, inv=inv: bpe(None, P.Sequence([P.Split(Regex(r"[\w.]"), b, inv), P.ByteLevel(False, use_regex=False)]), D.ByteLevel(), True, size=300)
os.makedirs(out, exist_ok=True)
for name, make in V.items():
    emit(name, make())
