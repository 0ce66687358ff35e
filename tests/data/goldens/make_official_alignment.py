"""Write official_alignment.json by running the official package; nothing of qwen3-asr-onnx is imported here.

The environment is that of make_official.py, whose docstring says how to make it:

    /tmp/venv-official/bin/python tests/data/goldens/make_official_alignment.py
"""

import importlib.metadata
import platform
import random
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from make_official import ARCHIVE, PACKAGES, write
from qwen_asr.inference.qwen3_forced_aligner import Qwen3ForceAlignProcessor
from transformers import Qwen2TokenizerFast

TEXTS = {
    "Chinese": [
        "甚至出现交易几乎停滞的情况。",
        "今天天气很好，我们去公园散步吧！",
        "他说：“明天3点开会”，别迟到。",
        "iPhone手机卖了1,299.50元。",
        "这是A股B股C股，共计100%。",
        "《红楼梦》是曹雪芹写的……",
        "㐀㐁 𠀀𠀁 豈更 鿿",
        "卡拉OK厅 24小时 营业",
        "他  她\t它\n我们",
        "一二三四五六七八九十",
        "全角ＡＢＣ１２３、半角ABC123",
        "“……”——！？",
    ],
    "Cantonese": [
        "佢哋噚日去咗邊度呀？",
        "我唔知點解會咁樣㗎。",
        "嗰啲嘢好貴喎，成$500添！",
        "你食咗飯未？食咗喇。",
        "Okay啦，聽日見！",
        "點解唔講嘢嘅？",
    ],
    "English": [
        "Hello, world.",
        "And so my fellow Americans, ask not what your country can do for you.",
        "It's John's, isn't it? 'Tis the dogs' dinner.",
        "It’s a “smart” quote—with dashes – and hyphens re-do.",
        "Pi is 3.14159, i.e. ~3; 50% of $1,000.00 is £400?",
        "The U.S.A. vs. the U.K. at 10:30 a.m.",
        "e-mail me at someone@example.org or https://example.org/a_b?c=d",
        "snake_case camelCase CONST_42 v1.2.3",
        "naïve café résumé coöperate",
        "cafe\u0301 na\u0308ive",
        "Mr. O'Neill & Mrs. D'Arcy said: \"Don't!\"",
        "the 1st, 2nd, 3rd and 42nd; Ⅷ, ½, ², ①",
        "   leading and trailing   ",
        "one\ttwo\nthree\r\nfour\u00a0five\u3000six\u2028seven",
        "zero\u200bwidth and \ufeffbom and soft\u00adhyphen",
        "emoji 😀 👩\u200d👩\u200d👧 🏳️\u200d🌈 in between 🎉🎉",
        "a",
        "''' ' ''",
        "uh-huh, mm-hmm... (laughs) [noise] <unk>",
        "<timestamp> <|audio_pad|> <asr_text>",
        "math 𝔘𝔫𝔦 x² ≤ y₃",
        "Visit 北京 and 上海 in May",
    ],
    "German": [
        "Guten Morgen, wie geht's?",
        "Der Donau­dampfschiff-Kapitän fuhr 1.234,56 km weit.",
        "„Straße“ und »Maß«: groß, Größe, ẞ",
        "Übermäßig äußerte sich O.K. z.B. d.h.",
        "Hans' Auto ist 3-mal so teuer wie das von Käthe.",
        "Nord-Ost-See-Kanal, 24/7 geöffnet!",
    ],
    "Spanish": [
        "¿Qué tal? ¡Muy bien, gracias!",
        "El niño comió 3,5 kg de piñas en la mañana.",
        "Pingüino, cigüeña y vergüenza.",
        "—Hola —dijo él—, ¿cómo estás?",
        "EE.UU. tiene 50 estados; n.º 1ª 2º",
        "«Así es», respondió María José.",
    ],
    "French": [
        "L'été, j'aime aller à la plage avec mes amis.",
        "Aujourd’hui c’est l’anniversaire d’Élodie.",
        "Qu'est-ce que c'est ? Rien du tout !",
        "Œuvre, cœur, naïf, garçon, Noël.",
        "« Bonjour », dit-il, « il est 18 h 30 ».",
        "Y a-t-il 1 000 000 d'euros ?",
    ],
    "Italian": [
        "Perché non andiamo all'aeroporto domani?",
        "L'un l'altro, un po' di più, dell'università.",
        "È così: né più né meno; 7,5%.",
        "«Ciao», disse; com'è andata?",
        "Citta\u0300 e perche\u0301",
    ],
    "Portuguese": [
        "Não, não é possível: amanhã há reunião às 9h.",
        "Água, pão, maçã e coração.",
        "Guarda-chuva, segunda-feira, dá-lhe.",
        "O sr. João tem R$ 1.500,00?",
        "Vovó disse: “está bem”.",
    ],
    "Russian": [
        "Привет, как дела?",
        "Ещё не вечер — подождём до 18:00.",
        "Кто-нибудь знает, где находится метро «Площадь Ильича»?",
        "Объём, подъезд, вьюга; №5.",
        "Фёдор Михайлович, г. Санкт-Петербург, ул. Садовая, д. 3/1.",
        "и\u0306од",
    ],
    "Korean": [
        "오늘은 날씨가 좋습니다. 안녕하세요",
        "저는 학교에 갑니다.",
        "한국어는 어렵지만 재미있어요!",
        "서울특별시에서 부산까지 KTX로 2시간 30분 걸립니다.",
        '그는 "아니요"라고 말했다.',
        "대형트럭이 인민공화국을 지나갔다",
        "3.14는 원주율이다; 100%입니다",
        "인민해방군의, 힘들었던 날들이었습니다...",
        "나 너 우리 그녀들은",
        "ㅋㅋㅋㅋ ㅠㅠ 하하하",
        "김치찌개와 불고기를 먹었습니다만, 맛이 없었어요.",
        "\u1112\u1161\u11ab\u1100\u116e\u11a8어",
        "안녕하세요?반갑습니다!",
        "hello 안녕 world세계 中国인",
        "사람들에게는 여러가지 생각이 있을 수 있다고 합니다",
        "",
        "...",
    ],
    "Japanese": [
        "今日はいい天気ですね。",
        "私は東京大学の学生です。",
        "客観的実在の判断的知識",
        "コンピューターとインターネットを使います。",
        "ｶﾀｶﾅとﾊﾝｶｸ、全角ＡＢＣ１２３",
        "彼は「はい」と言った！（笑）",
        "2024年3月15日に、3.5%上昇した。",
        "iPhoneを買いましたが、OSはiOS 17です。",
        "すもももももももものうち",
        "お父さん  お母さん",
        "㌔㍍ ① ½ ㈱テスト",
        "か\u3099き\u3099く\u3099",
        "ありがとうございました😀🎉",
        "…。、！？",
        "東京\n大阪\t名古屋",
        "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
        "İstanbul へ行く",
        " 先頭と末尾の空白 ",
        "Hello world, this is English.",
        "",
    ],
    "Thai": ["สวัสดีครับ วันนี้อากาศดี"],
    "Hindi": ["लूना को साथी पहलवानों ने भी"],
    "Arabic": ["كما أثنى الزملاء سلام\u200cها"],
    "": ["Hello 你好 안녕 こんにちは", "これは日本語の文です。"],
}
EVERYWHERE = [
    "",
    " ",
    "...",
    "。！？",
    "🎉",
    "\n\n",
    "12345",
    "it's 5 o'clock 在北京 で 서울에서",
    "O'Brien’s—“quote” (3.5) №7",
    "a1b2 c3-d4",
]
SPELLINGS = ["ENGLISH", "korean", "JAPANESE", "cantonese", "Klingon"]
PROMPTS = [
    ("English", "Hello, world. It's 5 o'clock!"),
    ("Chinese", "iPhone手机卖了1,299.50元。"),
    ("Korean", "오늘은 날씨가 좋습니다."),
    ("Russian", "Ещё не вечер."),
    ("French", "L'été, c’est naïf"),
    ("English", "<timestamp> <|audio_pad|>"),
    ("English", "PostgreSQL camelCase 𝔘𝔫𝔦"),
    ("English", ""),
]


def main():
    made_with = {name: importlib.metadata.version(name) for name in (*PACKAGES, "nagisa", "soynlp")}
    made_with["python"] = platform.python_version()
    processor = Qwen3ForceAlignProcessor()
    tables = {"segmentation": segmentation(processor), "repair": repair(processor), "prompts": prompts(processor)}
    write("official_alignment.json", made_with, tables)


def segmentation(processor):
    pairs = [(language, text) for language, texts in TEXTS.items() for text in texts]
    pairs += [(language, text) for language in list(TEXTS)[:11] for text in EVERYWHERE]
    pairs += [(language, text) for language in SPELLINGS for text in ("오늘은 좋습니다, o'clock", "今日は、東京へ")]
    cases = []
    for language, text in dict.fromkeys(pairs):
        try:
            units, _ = processor.encode_timestamp(text, language)
        except Exception as error:  # noqa: BLE001 - a golden of what happens
            units = {"error": type(error).__name__}
        cases.append({"language": language, "text": text, "units": units})
    return cases


def repair(processor):
    fixed = [
        [80, 4000, 160, 240], [0, 160, 80, 240], [500, 80, 160], [0, 500, 400, 300, 200, 100, 600], [3, 2, 1],
        [10, 0, 0, 0, 0], [0, 100, 90, 80, 70, 60], [100, 0, 50, 60, 70, 80, 90, 5, 6, 7, 200], [0], [5, 5], [5, 4],
        [80] * 12, list(range(0, 1600, 80)), list(range(1600, 0, -80)),
    ]  # fmt: skip
    dice = random.Random(3)
    generated = []
    for case in range(160):
        count = 2 * dice.randint(1, 40)
        times = sorted(dice.randrange(0, 60) * 80 for _ in range(count))
        for _ in range(dice.randint(0, count // 2)):
            start = dice.randrange(count)
            for i in range(start, min(count, start + dice.choice([1, 1, 2, 3, 5, 9]))):
                times[i] = dice.randrange(0, 60) * 80
        generated.append(times if case % 8 else [dice.randrange(0, 4000) for _ in times])
    return [
        {"ms": ms, "repaired": processor.fix_timestamp(np.array(ms, dtype=np.float32))} for ms in [*fixed, *generated]
    ]


def prompts(processor):
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(folder, filter="data")
        directory = Path(folder)
        (directory / "tokenizer_config.forced_aligner.json").replace(directory / "tokenizer_config.json")
        tokenizer = Qwen2TokenizerFast.from_pretrained(directory)
    cases = []
    for language, text in PROMPTS:
        _, prompt = processor.encode_timestamp(text, language)
        # One placeholder in the text stands for any number of audio tokens.
        ids = tokenizer.encode(prompt, add_special_tokens=False)
        cases.append({"language": language, "text": text, "ids": ids})
    return cases


if __name__ == "__main__":
    main()
