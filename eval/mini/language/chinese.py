"""Chinese part of the miniature language: pinyin table, vocabulary slots and sentence templates.

Flows in: a random generator. Flows out: token strings for `mini.language.sentences`; one token per character. The
voice reads pinyin with tone digits, because the plain Mandarin voice of Debian spells many characters out in English.
"""

# ruff: noqa: SIM905 - word lists read better as text

from mini.language.grammar import Grammar, Rng, Slot, few_digits, pick

# One fixed reading per character; characters with several readings are used in one sense only.
PINYIN = dict(
    entry.split(":")
    for entry in (
        "零:ling2 一:yi1 二:er4 三:san1 四:si4 五:wu3 六:liu4 七:qi1 八:ba1 九:jiu3 十:shi2 百:bai3 "
        "千:qian1 万:wan4 两:liang3 点:dian3 半:ban4 分:fen1 钟:zhong1 刻:ke4 年:nian2 月:yue4 号:hao4 "
        "星:xing1 期:qi1 天:tian1 今:jin1 明:ming2 昨:zuo2 早:zao3 上:shang4 下:xia4 午:wu3 晚:wan3 "
        "小:xiao3 时:shi2 秒:miao3 块:kuai4 元:yuan2 钱:qian2 打:da3 开:kai1 关:guan1 闭:bi4 请:qing3 "
        "把:ba3 的:de5 灯:deng1 电:dian4 视:shi4 脑:nao3 话:hua4 风:feng1 扇:shan4 音:yin1 乐:yue4 "
        "空:kong1 调:tiao2 窗:chuang1 门:men2 厨:chu2 房:fang2 卧:wo4 室:shi4 客:ke4 厅:ting1 花:hua1 "
        "园:yuan2 在:zai4 是:shi4 我:wo3 你:ni3 他:ta1 她:ta1 们:men5 有:you3 没:mei2 不:bu4 要:yao4 "
        "买:mai3 卖:mai4 看:kan4 见:jian4 找:zhao3 给:gei3 去:qu4 来:lai2 到:dao4 从:cong2 和:he2 个:ge4 "
        "本:ben3 只:zhi1 多:duo1 少:shao3 大:da4 新:xin1 旧:jiu4 红:hong2 绿:lü4 蓝:lan2 白:bai2 黑:hei1 "
        "黄:huang2 书:shu1 包:bao1 手:shou3 机:ji1 杯:bei1 子:zi5 桌:zhuo1 椅:yi3 票:piao4 水:shui3 "
        "茶:cha2 米:mi3 饭:fan4 面:mian4 牛:niu2 奶:nai3 苹:ping2 果:guo3 糖:tang2 狗:gou3 猫:mao1 马:ma3 "
        "鸟:niao3 鱼:yu2 北:bei3 京:jing1 海:hai3 南:nan2 广:guang3 州:zhou1 深:shen1 圳:zhen4 西:xi1 "
        "安:an1 武:wu3 汉:han4 火:huo3 车:che1 站:zhan4 飞:fei1 学:xue2 校:xiao4 医:yi1 院:yuan4 店:dian4 "
        "图:tu2 馆:guan3 气:qi4 怎:zen3 么:me5 样:yang4 什:shen2 几:ji3 晴:qing2 雨:yu3 雪:xue3 冷:leng3 "
        "热:re4 度:du4 加:jia1 等:deng3 于:yu2 码:ma3 人:ren2 老:lao3 师:shi1 王:wang2 李:li3 张:zhang1 "
        "刘:liu2 陈:chen2 林:lin2 好:hao3 再:zai4 谢:xie4 停:ting2 止:zhi3 声:sheng1 提:ti2 醒:xing3 "
        "叫:jiao4 起:qi3 床:chuang2 温:wen1 住:zhu4 喜:xi3 欢:huan1 吃:chi1 喝:he1 走:zou3 快:kuai4 "
        "慢:man4 丽:li4 莉:li4 力:li4 伟:wei3 炜:wei3 玮:wei3 军:jun1 君:jun1 钧:jun1 芳:fang1 方:fang1 "
        "静:jing4 敬:jing4 婷:ting2 庭:ting2 华:hua2 骅:hua2 强:qiang2 蔷:qiang2 杰:jie2 洁:jie2 捷:jie2 "
        "燕:yan4 艳:yan4 雁:yan4 宇:yu3 羽:yu3 禹:yu3 叶:ye4 夜:ye4 对:dui4"
    ).split()
)
DIGITS = "零一二三四五六七八九"

# Same sound, several characters; the first is written without context.
GIVEN_NAMES = [
    ["丽", "莉", "力"],
    ["伟", "炜", "玮"],
    ["军", "君", "钧"],
    ["芳", "方"],
    ["静", "敬"],
    ["婷", "庭"],
    ["华", "骅"],
    ["强", "蔷"],
    ["杰", "洁", "捷"],
    ["燕", "艳", "雁"],
    ["宇", "羽", "禹"],
]
SURNAMES = [[surname] for surname in "王李张刘陈林"]


def number(value: int) -> str:
    """Spell a whole number below one hundred thousand in characters."""
    if value < 10:
        return DIGITS[value]
    text, zero = "", False
    for unit, name in ((10000, "万"), (1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = value // unit % 10
        if digit == 0:
            zero = bool(text)
            continue
        text += ("零" if zero else "") + ("" if unit == 10 and digit == 1 and not text else DIGITS[digit]) + name
        zero = False
    return text


def _number(rng: Rng) -> str:
    return number(int(rng.integers(0, pick(rng, (13, 100, 100, 1000, 10000, 100000)))))


def _small(rng: Rng) -> str:
    return number(int(rng.integers(3, 100)))


def _digits(rng: Rng) -> str:
    return "".join(DIGITS[int(d)] for d in rng.integers(0, 10, int(rng.integers(3, 9))))


def _few_digits(rng: Rng) -> str:
    return few_digits(rng, DIGITS, "")


def _year(rng: Rng) -> str:
    return "".join(DIGITS[int(d)] for d in str(int(rng.integers(1920, 2040))))


def _clock(rng: Rng) -> str:
    hour = int(rng.integers(1, 13))
    tail = pick(rng, ("", "半", "一刻", number(int(rng.integers(11, 60))) + "分"))
    return ("两" if hour == 2 else number(hour)) + "点" + tail


SLOTS: dict[str, Slot] = {
    "n": _number,
    "s": _small,
    "digits": _digits,
    "few_digits": _few_digits,
    "year": _year,
    "clock": _clock,
    "month": lambda rng: number(int(rng.integers(1, 13))) + "月",
    "dom": lambda rng: number(int(rng.integers(1, 32))) + "号",
    "week": lambda rng: "星期" + pick(rng, "一二三四五六天"),
    "name": lambda rng: pick(rng, "王李张刘陈林") + pick(rng, ("老师", "明", "小明", "小红", "海", "大海", "天明")),
    "device": ["灯", "电视", "电脑", "风扇", "音乐", "空调", "窗", "门"],
    "room": ["厨房", "卧室", "客厅", "花园"],
    "openclose": ["打开", "关闭"],
    "day": ["今天", "明天", "{week}", "今天晚上", "明天早上"],
    "part": ["早上", "上午", "下午", "晚上"],
    "city": ["北京", "上海", "南京", "广州", "深圳", "西安", "武汉"],
    "unit": ["分钟", "小时", "秒", "天"],
    "color": ["红", "绿", "蓝", "白", "黑", "黄"],
    "food": ["水", "茶", "米饭", "面包", "牛奶", "苹果", "糖", "鱼"],
    "thing": ["书", "书包", "手机", "杯子", "桌子", "椅子", "票", "车"],
    "animal": ["狗", "猫", "马", "鸟", "鱼", "牛"],
    "weather": ["晴天", "下雨", "下雪", "冷", "热"],
    "who": ["我", "你", "他们", "我们", "{name}"],
    "adj": ["大", "小", "新", "旧"],
    "place": ["火车站", "学校", "医院", "书店", "图书馆", "饭店"],
    "verb": ["买", "卖", "看见", "找到", "有", "喜欢", "要"],
}

SENTENCES = [
    "请{openclose}{room}的{device}。",
    "{openclose}{room}的{color}灯。",
    "请把{room}的{device}关上。",
    "{s}{unit}再叫我。",
    "{part}{clock}叫我起床。",
    "{day}{part}{clock}提醒我。",
    "给{name}打电话。",
    "请在{clock}给{name}打电话。",
    "{city}几点？",
    "{day}{city}天气怎么样？",
    "{day}{city}{weather}，{s}度。",
    "我的号码是{digits}。",
    "号码是{digits}，不是{digits}。",
    "{adj}{thing}{n}块钱。",
    "{who}{verb}一本书和两个{thing}。",
    "{name}要{food}和{food}。",
    "请买{food}，{food}和{food}。",
    "去{city}的火车{clock}开。",
    "{s}号车到{place}。",
    "{day}{who}去{city}。",
    "{month}{dom}{who}在{city}。",
    "{name}{year}年{month}{dom}来{city}。",
    "{year}年我们住在{city}。",
    "{place}有{n}个人。",
    "{n}加{s}等于{n}。",
    "{who}{verb}{color}{thing}和{adj}{thing}。",
    "{adj}{color}{animal}在{room}。",
    "{color}{thing}在{room}？",
    "从{city}到{city}多少钱？",
    "空调温度{s}度。",
    "{name}和{name}在{place}。",
    "{who}{part}{clock}在{place}等你。",
    "{who}不喜欢吃{food}。",
    "{name}喝{food}，我喝{food}。",
    "{name}，{part}好。",
]

SHORT = [
    "是。", "不要。", "停。", "谢谢。", "你好。", "{part}好。", "{n}。", "{s}。", "{week}。", "{month}{dom}。",
    "{name}。", "{color}。", "{city}。", "{clock}。", "{n}块。", "大声一点。", "再见。", "{food}。", "{place}。",
    "{digits}。", "{thing}。", "{year}年。", "{adj}{thing}。", "{animal}。", "{openclose}。", "快一点。",
]  # fmt: skip

NAMED = [
    "请给{rare}打电话。",
    "把{thing}给{rare}。",
    "{rare}住在{city}。",
    "{day}{rare}去{place}。",
    "我看见{rare}在{place}。",
    "{rare}要{food}和{food}。",
    "我叫{rare}。",
    "{rare}，{part}好。",
]

GRAMMAR = Grammar(
    language="Chinese",
    sentences=SENTENCES,
    short=SHORT,
    named=NAMED,
    slots=SLOTS,
    name_groups=(SURNAMES, GIVEN_NAMES),
    joiner="",
    full_stop="。",
)
